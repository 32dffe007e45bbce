"""A batch that survives its own death: kill it (even with SIGKILL) and start it again; it goes on where it was.

python examples/batch.py 50051
"""

import sys

from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub
from stormproof import Channel, CheckpointStore, Mark, Policy, checkpointed

names = [f"guest {number}" for number in range(1, 101)]

with Channel([f"127.0.0.1:{port}" for port in sys.argv[1:]], policy=Policy(idempotent=True)) as channel:
    stub = HelloStub(channel)

    def greet(name: str, mark: Mark) -> str:
        # The mark tells the server which item this is, and whether it may have seen it before.
        return stub.SayHello(HelloRequest(name=name), metadata=mark.metadata).message

    with CheckpointStore("greetings.db") as store:
        for message in checkpointed(names, greet, store=store, name="greetings", every=10):
            print(message)
