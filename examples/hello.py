"""Greets through the plain stub of gRPC, and through stormproof's Channel. The stub is the same.

Start a server or three first, each in a terminal of its own, and give their ports:

    python -m harness.node --port 50051 --service-time 1.0
    python examples/hello.py 50051
"""

import sys

import grpc

from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub
from stormproof import Channel, Policy, Retry

addresses = [f"127.0.0.1:{port}" for port in sys.argv[1:] or ["50051"]]

with grpc.insecure_channel(addresses[0]) as channel:
    print("plain stub:", HelloStub(channel).SayHello(HelloRequest(name="Ada")).message)

with Channel(addresses, policy=Policy(timeout=5.0, retry=Retry(attempts=3))) as channel:
    print("stormproof:", HelloStub(channel).SayHello(HelloRequest(name="Ada")).message)
