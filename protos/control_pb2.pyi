from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Behaviour(_message.Message):
    __slots__ = ("error_rate", "error_code", "delay", "hang_rate", "limit", "wrong_rate", "seed")
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    HANG_RATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WRONG_RATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    error_rate: float
    error_code: int
    delay: float
    hang_rate: float
    limit: int
    wrong_rate: float
    seed: int
    def __init__(self, error_rate: _Optional[float] = ..., error_code: _Optional[int] = ..., delay: _Optional[float] = ..., hang_rate: _Optional[float] = ..., limit: _Optional[int] = ..., wrong_rate: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class ObserveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("grace",)
    GRACE_FIELD_NUMBER: _ClassVar[int]
    grace: float
    def __init__(self, grace: _Optional[float] = ...) -> None: ...

class Observed(_message.Message):
    __slots__ = ("received", "errors", "delayed", "hung", "refused", "wrong")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    HUNG_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    received: int
    errors: int
    delayed: int
    hung: int
    refused: int
    wrong: int
    def __init__(self, received: _Optional[int] = ..., errors: _Optional[int] = ..., delayed: _Optional[int] = ..., hung: _Optional[int] = ..., refused: _Optional[int] = ..., wrong: _Optional[int] = ...) -> None: ...
