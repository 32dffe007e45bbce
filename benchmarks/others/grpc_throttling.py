"""gRPC's retry throttling (gRFC A6): tokens; a failure costs one, a success earns a part of one."""

from __future__ import annotations


class GrpcThrottling:
    """By default with the values of A6's own example; `most` may be 1000 at most."""

    def __init__(self, most: float = 10.0, ratio: float = 0.1) -> None:
        self._most = most
        self._ratio = ratio
        # A6: "the token_count is initially set to maxTokens and can take values between 0 and maxTokens"
        self._tokens = most

    def begun(self, now: float) -> None:
        """Requests earn nothing."""

    def failed(self, now: float) -> None:  # noqa: ARG002
        # A6: "every failed RPC will decrement the token_count by 1"
        self._tokens = max(0.0, self._tokens - 1.0)

    def succeeded(self, now: float) -> None:  # noqa: ARG002
        # A6: "every successful RPC will increment the token_count by tokenRatio"
        self._tokens = min(self._most, self._tokens + self._ratio)

    def withdraw(self, now: float) -> bool:  # noqa: ARG002
        # A6: "if token_count is less than or equal to the threshold (maxTokens / 2), then RPCs will not be retried"
        return self._tokens > self._most / 2.0
