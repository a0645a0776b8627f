"""Errors the service answers with, and the one mapping from them to JSON (OpenAI's shape)."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


class ServiceError(Exception):
    """Base of what a client is told. `param` names the field of the request at fault."""

    status = 500
    type = "server_error"
    code: str | None = None
    retry_after_s: int | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ClientError(ServiceError):
    """The request is at fault."""

    status = 400
    type = "invalid_request_error"


class BadRequest(ClientError):
    code = "bad_request"


class NotFound(ClientError):
    status = 404
    code = "not_found"


class ModelNotFound(ClientError):
    status = 404
    code = "model_not_found"


class BodyTooLarge(ClientError):
    status = 413
    code = "body_too_large"


class Unprocessable(ClientError):
    status = 422
    code = "invalid_value"


class AdapterRejected(ClientError):
    """An adapter that can't be served; nothing changed."""

    status = 422
    code = "adapter_rejected"


class Unauthenticated(ClientError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(ClientError):
    """The key is right, its scopes are not."""

    status = 403
    type = "permission_error"
    code = "missing_scope"


class ForeignHost(ClientError):
    """Without keys: the request came for another name than this machine's own."""

    status = 403
    type = "permission_error"
    code = "foreign_host"


class Conflict(ClientError):
    status = 409
    code = "conflict"


class RateLimited(ClientError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Overloaded(ServiceError):
    """Refused before any work, so that what was accepted stays fast."""

    status = 503
    type = "service_unavailable"
    code = "overloaded"
    retry_after_s = 1


class DeadlineExceeded(ServiceError):
    """The request's time was over; its work has been stopped."""

    status = 504
    type = "timeout"
    code = "deadline_exceeded"


class EngineUnavailable(ServiceError):
    """The engine is dead, not started, or refuses work."""

    status = 503
    type = "service_unavailable"
    code = "engine_unavailable"


class StartupError(Exception):
    """Why the service can't start: one line for the operator."""


def error_body(
    message: str, type_: str, request_id: str, param: str | None, code: str | None
) -> dict[str, Any]:
    return {
        "error": {
            "message": printable(message),
            "type": type_,
            "param": printable(param) if param is not None else None,
            "code": code,
            "request_id": request_id,
        }
    }


def printable(text: str) -> str:
    """A message may quote a field of the request, which may hold half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def respond(error: ServiceError, request_id: str) -> JSONResponse:
    body = error_body(error.message, error.type, request_id, error.param, error.code)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=error.status, headers=headers)


def install(app: FastAPI) -> None:
    """Make every error of the app leave in one shape, with no word of internals."""

    async def service_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        return respond(error, request.state.request_id)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = from_validation(error.errors(), malformed(request))
        return respond(found, request.state.request_id)

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # FastAPI's, for a body that is not even text
            return respond(malformed(request)(str(error.detail)), request.state.request_id)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        body = error_body(
            str(error.detail), "invalid_request_error", request.state.request_id, None, code
        )
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def malformed(request: Request) -> type[ClientError]:
    """OpenAI's clients know a malformed body by 400."""
    return BadRequest if request.url.path.startswith("/v1/") else Unprocessable


PLACES = ("body", "query", "path", "header")


def from_validation(problems: Sequence[Any], error: type[ClientError]) -> ClientError:
    """pydantic's findings → one error that names the first field and says how many more."""
    first = problems[0]
    param = ".".join(str(part) for part in first["loc"] if part not in PLACES) or None
    if first["type"] == "json_invalid":
        return error(f"the body is not valid JSON: {first.get('ctx', {}).get('error', '')}")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return error(f"{param or 'body'}: {first['msg']}{more}", param)
