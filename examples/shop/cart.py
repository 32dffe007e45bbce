"""The shop's cart: plain grpcio, a service of its own, no health service. It counts what is in each customer's cart."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc

carts = Counter()


def add(customer, context):  # noqa: ARG001
    carts[customer] += 1
    return b"%d" % carts[customer]


# Without generated code, so that the example is one file: a request is the customer's name, an answer the count.
methods = {"Add": grpc.unary_unary_rpc_method_handler(add)}
server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Cart", methods)])
server.add_insecure_port("0.0.0.0:7000")
server.start()
server.wait_for_termination()
