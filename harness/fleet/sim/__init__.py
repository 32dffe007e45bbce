"""The fleet of virtual time: the same scenarios and the same decisions of the library, without processes or waiting.

    fleet.py       what the session sees: which scenarios it can run, and the history that it gives
    run.py         one run: builds the parts, lets time pass, and makes the history of what they noted
    books.py       what was noted of calls, in memory or on disk
    engine.py      time: a heap of what is due
    process.py     what a process can be, a server's or the client's: running, paused, gone
    workload.py    the client's process: calls that are due       the twin of harness/client.py
    driver.py      calls and their attempts                       the twin of stormproof/driver.py
    stream.py      what is read of an answer stream               the twin of stormproof/streaming.py
    health.py      who is asked whether it can serve              the twin of stormproof/health_checks.py
    subchannel.py  connecting, and connecting again               the twin of stormproof/subchannels.py, and of gRPC
    link.py        connections, through the built-in proxy's toxics    the twin of harness/proxy/link.py
    server.py      workers, queue, misbehaviour, how a process ends    the twin of harness/node/
    nemesis.py     faults come and go                             the twin of harness/nemesis.py

What is decided is decided elsewhere, by the code that also runs in real fleets: stormproof.core for the client,
harness.proxy.pipe for bytes under toxics, harness.node.conduct for a server's misbehaviour. Here is only what takes
time. Nothing here reads a clock, and every draw is from the run's seed, so a seed repeats a run to the byte.
"""
