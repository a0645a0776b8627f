"""What handlers read from the application and from a request."""

import time
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from app.errors import ModelNotFound
from app.http.schemas.base import ErrorResponse
from app.http.schemas.predictions import JudgingFields
from app.knowledge.terms import Terms
from app.models.registry import Choice
from app.service import Service
from app.settings import ApiKey

ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "There is no such model."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    415: {
        "model": ErrorResponse,
        "description": "The body is compressed, or its Content-Type is not JSON's.",
    },
    422: {"model": ErrorResponse, "description": "A field is invalid; `param` names it."},
    503: {
        "model": ErrorResponse,
        "description": "The service is overloaded, or its engine can't answer.",
    },
    504: {"model": ErrorResponse, "description": "The request exceeded its deadline."},
}
STORE_ERRORS: dict[int | str, dict[str, Any]] = {
    422: ERRORS[422],
    503: {
        "model": ErrorResponse,
        "description": "The store is away, slow or full. Try again after `Retry-After` seconds.",
    },
}
BODY_ERRORS: dict[int | str, dict[str, Any]] = {status: ERRORS[status] for status in (413, 415)}
NOT_STORED: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "Nothing is stored under this id."}
}
FEEDBACK_ERRORS: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    404: {
        "model": ErrorResponse,
        "description": "No such answer is kept, or feedback is turned off.",
    },
    503: {"model": ErrorResponse, "description": "The disk is full, slow or gone."},
}


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


ServiceDep = Annotated[Service, Depends(service_of)]


def sender_of(request: Request) -> str | None:
    """The name of the API key that was sent; None if the service has no keys."""
    key: ApiKey | None = request.state.key
    return None if key is None else key.name


SenderDep = Annotated[str | None, Depends(sender_of)]

CHANGE_ERRORS: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    404: {"model": ErrorResponse, "description": "There is no such adapter, alias or model."},
    409: {
        "model": ErrorResponse,
        "description": "The change conflicts with the settings or with what is served now.",
    },
    503: {
        "model": ErrorResponse,
        "description": "The service is overloaded, or its store or engine can't answer. Nothing has"
        " changed.",
    },
}


def choose(
    request: Request,
    service: Service,
    name: str | None,
    reader_id: str | None,
    *,
    ranker: bool = True,
) -> Choice:
    """Choose the model that answers this request, and note it for the metrics. ranker: whether the
    model's ranker may be used.

    Raises ModelNotFound, and EngineStarting if the model may still have to be loaded.
    """
    try:
        choice = service.models.choose(name, reader_id or request.state.request_id)
    except ModelNotFound:
        service.check_loaded()
        raise
    if not ranker:
        choice = choice.without_ranker()
    request.state.model = choice.name
    return choice


def terms_of(
    request: Request,
    service: Service,
    body: JudgingFields,
    shortlist: int | Literal["all"] | None = "all",
) -> Terms:
    """shortlist: how many candidates the language model judges; None for the usual number."""
    return Terms(
        at=body.time,
        judge_all=shortlist == "all",
        shortlist=None if shortlist == "all" else shortlist,
        deadline=request.state.deadline,
        may_degrade=service.settings.degraded and body.degraded == "allow",
        draining=request.state.draining,
    )


def latency_ms(request: Request) -> float:
    """Milliseconds since the request arrived."""
    started: float = request.state.started
    return round((time.perf_counter() - started) * 1e3, 3)
