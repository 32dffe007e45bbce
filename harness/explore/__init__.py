"""The search for a bad day: `stormproof explore`.

    fair.py     which promises a client makes of itself, by what it is configured to do, on a given day
    asked.py    what the command line asks for, as values: guarantees and clients
    search.py   days are drawn, run in virtual time and judged until one breaks a promise; then it is made small
    corpus.py   what was found, one file each, so that it is met first the next time
    source.py   a scenario as Python that can be pasted into a suite
    command.py  what the terminal shows of it, and the exit status

The days themselves are drawn by harness/strategies.py, which needs Hypothesis, as search.py does; the others do not.
"""
