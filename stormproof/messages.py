"""Messages of gRPC's standard protocols, as far as the channel needs them, each in a descriptor pool of its own.

The generated modules for them (xds, grpcio-health-checking) put their names into the one pool of the process. A program that
has generated the same .proto itself, from another path, then cannot import one of the two: "duplicate symbol". So the
library imports neither, and what is here can meet no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

DOUBLE = FieldDescriptorProto.TYPE_DOUBLE
TEXT = FieldDescriptorProto.TYPE_STRING
#: An enum is the same on the wire.
WHOLE = FieldDescriptorProto.TYPE_INT32


def message_class(
    name: str,
    fields: Mapping[str, tuple[int, FieldDescriptorProto.Type.ValueType]],
    metrics: Mapping[str, int] | None = None,
) -> Any:
    """The class of messages `name` ("package.Message"): fields by name, each with its number and type, and maps of text to
    double (`metrics`), each with its number. Fields not given are skipped when read, as those of a later version are."""
    package, _, short = name.rpartition(".")
    message = DescriptorProto(name=short)
    for field, (number, kind) in fields.items():
        message.field.add(name=field, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    for field, number in (metrics or {}).items():
        entry = message.nested_type.add(name="".join(word.title() for word in field.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=TEXT, label=FieldDescriptorProto.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=DOUBLE, label=FieldDescriptorProto.LABEL_OPTIONAL)
        message.field.add(
            name=field,
            number=number,
            type=FieldDescriptorProto.TYPE_MESSAGE,
            type_name=f".{name}.{entry.name}",
            label=FieldDescriptorProto.LABEL_REPEATED,
        )
    file = FileDescriptorProto(name=f"{name}.proto", package=package, syntax="proto3", message_type=[message])
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(name))
