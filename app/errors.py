"""What can go wrong, without a word of HTTP: app/http/errors.py turns it into answers."""

from collections.abc import Sequence
from typing import Any, ClassVar


class ServiceError(Exception):
    """Base of what a client is told.

    `param` names the field of the request at fault. `code` is for programs; `retry_after_s` says
    after how many seconds another try makes sense.
    """

    code: ClassVar[str | None] = None
    retry_after_s: int | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ClientError(ServiceError):
    """The request is at fault."""


class BadRequest(ClientError):
    """The request can't be understood."""

    code = "bad_request"


class NotFound(ClientError):
    code = "not_found"


class ModelNotFound(ClientError):
    code = "model_not_found"


class InvalidValue(ClientError):
    """The request is understood, but a field's value can't be used."""

    code = "invalid_value"


class AdapterRejected(ClientError):
    """The adapter can't be served. Nothing has changed."""

    code = "adapter_rejected"


class Conflict(ClientError):
    """The state of the service forbids the change. Nothing has changed."""

    code = "conflict"


class Overloaded(ServiceError):
    """Refused before any work started, so that requests already accepted stay fast."""

    code = "overloaded"
    retry_after_s = 1


class DeadlineExceeded(ServiceError):
    """The request ran out of time, and its work has been stopped."""

    code = "deadline_exceeded"


class EngineUnavailable(ServiceError):
    """The engine is dead, has not started, or refuses work."""

    code = "engine_unavailable"


class FeedbackUnavailable(ServiceError):
    """The disk is full, slow or gone. Predictions go on."""

    code = "feedback_unavailable"
    retry_after_s = 5


class StartupError(Exception):
    """Why the service can't start: one line for the operator."""


PLACES = ("body", "query", "path", "header")
"""Where pydantic says a field was, which is no part of its name."""


def from_validation(problems: Sequence[Any], error: type[ClientError]) -> ClientError:
    """Turns pydantic's findings into one error that names the first field and counts the others."""
    first = problems[0]
    param = ".".join(str(part) for part in first["loc"] if part not in PLACES) or None
    if first["type"] == "json_invalid":
        return error(f"the body is not valid JSON: {first.get('ctx', {}).get('error', '')}")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return error(f"{param or 'body'}: {first['msg']}{more}", param)
