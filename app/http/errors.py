"""The one mapping from the service's errors to a status and OpenAI's JSON shape."""

from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from app.errors import (
    AdapterRejected,
    BadRequest,
    ClientError,
    Conflict,
    DeadlineExceeded,
    EngineUnavailable,
    InvalidValue,
    ModelNotFound,
    NotFound,
    Overloaded,
    ServiceError,
    StoreUnavailable,
    from_validation,
)
from app.observability import metrics


class BodyTooLarge(ClientError):
    code = "body_too_large"


class UnsupportedMediaType(ClientError):
    """The body is compressed, or its Content-Type is not JSON's."""

    code = "unsupported_media_type"


class Unauthenticated(ClientError):
    code = "invalid_api_key"


class Forbidden(ClientError):
    """The key is valid but lacks the scope."""

    code = "missing_scope"


class ForeignHost(ClientError):
    """A service without keys was addressed by a name that is not this machine's own."""

    code = "foreign_host"


class RateLimited(ClientError):
    code = "rate_limit_exceeded"


class Answer(NamedTuple):
    """status: of HTTP. type: OpenAI's name for the kind of error."""

    status: int
    type: str


EVENT_STREAM = "text/event-stream"
INVALID, UNAVAILABLE = "invalid_request_error", "service_unavailable"
ANSWERS: dict[type[ServiceError], Answer] = {
    ServiceError: Answer(500, "server_error"),
    ClientError: Answer(400, INVALID),
    BadRequest: Answer(400, INVALID),
    Unauthenticated: Answer(401, "authentication_error"),
    Forbidden: Answer(403, "permission_error"),
    ForeignHost: Answer(403, "permission_error"),
    NotFound: Answer(404, INVALID),
    ModelNotFound: Answer(404, INVALID),
    Conflict: Answer(409, INVALID),
    BodyTooLarge: Answer(413, INVALID),
    UnsupportedMediaType: Answer(415, INVALID),
    InvalidValue: Answer(422, INVALID),
    AdapterRejected: Answer(422, INVALID),
    RateLimited: Answer(429, "rate_limit_error"),
    Overloaded: Answer(503, UNAVAILABLE),
    EngineUnavailable: Answer(503, UNAVAILABLE),
    StoreUnavailable: Answer(503, UNAVAILABLE),
    DeadlineExceeded: Answer(504, "timeout"),
}
"""An error that is not listed is answered like its nearest base class that is."""


def answer_of(error: ServiceError) -> Answer:
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def respond(error: ServiceError, request_id: str) -> JSONResponse:
    if isinstance(error, Overloaded):
        metrics.REFUSED.labels(error.reason).inc()
    status, kind = answer_of(error)
    body = error_body(error.message, kind, request_id, error.param, error.code)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=status, headers=headers)


async def end_with(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    """End a request with an error: by an answer of its own, or in an event stream that has begun by
    a last event in the same shape. Any other answer that has begun is left incomplete."""
    response, state = respond(error, scope["state"]["request_id"]), scope["state"]
    if not state["is_answering"]:
        await response(scope, receive, send)
    elif state["is_streaming"]:
        event = b"data: " + bytes(response.body) + b"\n\n"
        await send({"type": "http.response.body", "body": event, "more_body": False})


def error_body(
    message: str, kind: str, request_id: str, param: str | None, code: str | None
) -> dict[str, Any]:
    return {
        "error": {
            "message": printable(message),
            "type": kind,
            "param": printable(param) if param is not None else None,
            "code": code,
            "request_id": request_id,
        }
    }


def printable(text: str) -> str:
    """Replace lone surrogates, which a quoted field of the request may contain."""
    return text.encode("utf-8", "replace").decode()


def install(app: FastAPI) -> None:
    """Make the app answer all errors in one shape that reveals nothing about internals."""

    async def service_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        return respond(error, request.state.request_id)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problems = error.errors()
        unread = isinstance(error.body, bytes) or problems[0]["type"] == "json_invalid"
        refusal: ClientError | None = unsupported(request) if unread else None
        refusal = refusal or from_validation(problems, malformed(request))
        return respond(refusal, request.state.request_id)

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # FastAPI raises it for a body that it can't parse
            why = unsupported(request) or malformed(request)(unparsable(error))
            return respond(why, request.state.request_id)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        body = error_body(str(error.detail), INVALID, request.state.request_id, None, code)
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def unsupported(request: Request) -> UnsupportedMediaType | None:
    """Why a body that could not be read as JSON was not, as far as the request's headers tell."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        message = (
            f"the body is compressed ({coding[:50]}), which is not supported; send it as it is"
        )
        return UnsupportedMediaType(message, "content-encoding")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("application/") and kind.endswith(("/json", "+json")):
        return None
    found = f"not {kind[:50]}" if kind else "which is missing"
    message = f"the body must be JSON with the header Content-Type: application/json, {found}"
    return UnsupportedMediaType(message, "content-type")


def unparsable(error: HTTPException) -> str:
    """Why FastAPI could not parse a body, in a client's words."""
    match error.__cause__:
        case UnicodeDecodeError() as cause:
            return f"the body is not UTF-8: the byte at position {cause.start} fits no character"
        case RecursionError():
            return "the body is nested too deeply"
        case ValueError():
            return "the body holds a number with too many digits"
        case _:
            return str(error.detail)


def malformed(request: Request) -> type[ClientError]:
    """The error for a malformed body: OpenAI's clients expect a 400, our own routes answer 422."""
    return BadRequest if request.url.path.startswith("/v1/") else InvalidValue
