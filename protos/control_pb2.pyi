from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AS_IT_IS: _ClassVar[Health]
    ALWAYS_SERVING: _ClassVar[Health]
    NEVER_SERVING: _ClassVar[Health]
AS_IT_IS: Health
ALWAYS_SERVING: Health
NEVER_SERVING: Health

class Behaviour(_message.Message):
    __slots__ = ("error_rate", "error_code", "delay", "hang_rate", "limit", "wrong_rate", "seed", "cold_delay", "cold_for", "health", "memory")
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    HANG_RATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WRONG_RATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    COLD_DELAY_FIELD_NUMBER: _ClassVar[int]
    COLD_FOR_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    error_rate: float
    error_code: int
    delay: float
    hang_rate: float
    limit: int
    wrong_rate: float
    seed: int
    cold_delay: float
    cold_for: float
    health: Health
    memory: int
    def __init__(self, error_rate: _Optional[float] = ..., error_code: _Optional[int] = ..., delay: _Optional[float] = ..., hang_rate: _Optional[float] = ..., limit: _Optional[int] = ..., wrong_rate: _Optional[float] = ..., seed: _Optional[int] = ..., cold_delay: _Optional[float] = ..., cold_for: _Optional[float] = ..., health: _Optional[_Union[Health, str]] = ..., memory: _Optional[int] = ...) -> None: ...

class ObserveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("grace",)
    GRACE_FIELD_NUMBER: _ClassVar[int]
    grace: float
    def __init__(self, grace: _Optional[float] = ...) -> None: ...

class Observed(_message.Message):
    __slots__ = ("received", "errors", "delayed", "hung", "refused", "wrong", "cold", "lied")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    HUNG_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    LIED_FIELD_NUMBER: _ClassVar[int]
    received: int
    errors: int
    delayed: int
    hung: int
    refused: int
    wrong: int
    cold: int
    lied: int
    def __init__(self, received: _Optional[int] = ..., errors: _Optional[int] = ..., delayed: _Optional[int] = ..., hung: _Optional[int] = ..., refused: _Optional[int] = ..., wrong: _Optional[int] = ..., cold: _Optional[int] = ..., lied: _Optional[int] = ...) -> None: ...
