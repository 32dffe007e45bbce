"""A stream that outlives its client: kill this (even with SIGKILL) and start it again; it reads on where it was.

python examples/listing.py
"""

from concurrent.futures import ThreadPoolExecutor

import grpc

from protos.hello_pb2 import HelloReply, HelloRequest
from protos.hello_pb2_grpc import HelloServicer, HelloStub, add_HelloServicer_to_server
from stormproof import Channel, Checkpoint, CheckpointStore, Policy, checkpointed_stream


class Guests(HelloServicer):
    """Lists a thousand guests, those after the number that the request names."""

    def SayHelloToEach(self, request, context):  # noqa: ARG002, N802
        for number in range(int(request.name or 0) + 1, 1001):
            yield HelloReply(message=f"guest {number}")


server = grpc.server(ThreadPoolExecutor(4))
add_HelloServicer_to_server(Guests(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()

# How to ask for what comes after a message, and what of it must be remembered for that.
GUESTS = Checkpoint(
    resume=lambda _, cursor: HelloRequest(name=cursor),
    cursor=lambda reply: reply.message.removeprefix("guest "),
)

# In the policy it brings the stream over a server's death, with the store over our own.
with Channel([f"127.0.0.1:{port}"], policy=Policy(checkpoint=GUESTS)) as channel:
    list_guests = HelloStub(channel).SayHelloToEach
    with CheckpointStore("guests.db") as store:
        for reply, mark in checkpointed_stream(
            list_guests, HelloRequest(), checkpoint=GUESTS, store=store, name="guests", every=100
        ):
            print(f"{mark.index}: {reply.message}" + (" (perhaps for the second time)" if mark.repeat else ""))

server.stop(0).wait()
