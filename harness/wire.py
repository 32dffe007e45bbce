"""Our generated modules, also where a project that we test has a package of its own that is named `protos`.

Many gRPC projects have one. Then ours are imported once past it, and sys.modules is left as it was found, so that the
project's own code finds its own package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protos.control_pb2 import Behaviour, DrainRequest, Health, Observed, ObserveRequest
    from protos.control_pb2_grpc import ControlStub
    from protos.control_pb2_grpc import add_ControlServicer_to_server as add_control
    from protos.hello_pb2 import HelloReply, HelloRequest
    from protos.hello_pb2_grpc import HelloStub
    from protos.hello_pb2_grpc import add_HelloServicer_to_server as add_hello

__all__ = [
    "Behaviour", "ControlStub", "DrainRequest", "Health", "HelloReply", "HelloRequest", "HelloStub", "ObserveRequest",
    "Observed", "add_control", "add_hello", "give_way",
]  # fmt: skip

ROOT = Path(__file__).parents[1]


def _ours(package: Any) -> bool:
    """Whether this is our own package."""
    return Path(getattr(package, "__file__", None) or "/").parent == ROOT / "protos"


def give_way() -> None:
    """Forgets our `protos` in this process, so that the next import of that name finds what sys.path says."""
    for name in [name for name in sys.modules if name == "protos" or name.startswith("protos.")]:
        del sys.modules[name]


@contextmanager
def _past_others() -> Iterator[None]:
    """Inside, `protos` is ours; afterwards whatever it was before."""
    others = {name: sys.modules[name] for name in list(sys.modules) if name == "protos" or name.startswith("protos.")}
    give_way()
    sys.path.insert(0, str(ROOT))
    try:
        yield
    finally:
        sys.path.pop(0)
        give_way()
        sys.modules.update(others)


def _load(names: tuple[str, ...]) -> list[Any]:
    try:
        package = import_module("protos")
    except ImportError:
        package = None
    if _ours(package):
        return [import_module(f"protos.{name}") for name in names]
    with _past_others():
        return [import_module(f"protos.{name}") for name in names]


if not TYPE_CHECKING:
    _hello, _hello_grpc, _control, _control_grpc = _load(
        ("hello_pb2", "hello_pb2_grpc", "control_pb2", "control_pb2_grpc")
    )
    HelloReply, HelloRequest = _hello.HelloReply, _hello.HelloRequest
    HelloStub, add_hello = _hello_grpc.HelloStub, _hello_grpc.add_HelloServicer_to_server
    Behaviour, DrainRequest = _control.Behaviour, _control.DrainRequest
    Observed, ObserveRequest, Health = _control.Observed, _control.ObserveRequest, _control.Health
    ControlStub, add_control = _control_grpc.ControlStub, _control_grpc.add_ControlServicer_to_server
