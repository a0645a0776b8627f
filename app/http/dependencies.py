"""What handlers take from the application and from a request."""

import time
from typing import Annotated, Any

from fastapi import Depends, Request

from app.http.schemas import ErrorResponse
from app.models.registry import Choice
from app.service import Service

ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "No such model"},
    413: {"model": ErrorResponse, "description": "The body is too large"},
    422: {"model": ErrorResponse, "description": "A field is invalid; `param` names it"},
    503: {"model": ErrorResponse, "description": "Overloaded, or the engine can't answer"},
    504: {"model": ErrorResponse, "description": "The request ran out of time"},
}


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


ServiceDep = Annotated[Service, Depends(service_of)]


def choose(request: Request, service: Service, name: str | None, reader_id: str | None) -> Choice:
    """The model that answers this request, noted for its metrics. Raises ModelNotFound."""
    choice = service.models.choose(name, reader_id or request.state.request_id)
    request.state.model = choice.model.name
    return choice


def latency_ms(request: Request) -> float:
    """Milliseconds since the request came."""
    started: float = request.state.started
    return round((time.perf_counter() - started) * 1e3, 3)
