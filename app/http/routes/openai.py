"""OpenAI's routes. vLLM's own serving code answers chat and completions on the same engine; the
list of models is ours."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from app.engine.base import OpenAIAnswer, OpenAIAPI
from app.errors import BadRequest, EngineUnavailable, ModelNotFound, NotFound
from app.http.dependencies import ERRORS, ServiceDep, choose
from app.http.errors import EVENT_STREAM
from app.http.json_values import check_encodable
from app.http.openai_body import Tokens, chat_tokens, completion_tokens
from app.http.schemas.base import ErrorResponse
from app.http.schemas.models import ModelCard, ModelList
from app.service import Service
from app.settings import Limits

router = APIRouter(
    prefix="/v1",
    tags=["OpenAI"],
    responses={
        400: {"model": ErrorResponse, "description": "A field is invalid; `param` names it."},
        **{status: ERRORS[status] for status in (404, 413, 415, 503, 504)},
    },
)
CHAT = {
    "model": "news-smollm2",
    "messages": [{"role": "user", "content": "Name one newspaper."}],
    "max_tokens": 10,
    "temperature": 0.01,
}
COMPLETION = {"model": "news-smollm2", "prompt": "The news today:", "max_tokens": 10}
STARTED = int(time.time())


def openai(service: ServiceDep) -> OpenAIAPI:
    api = service.engine.openai
    if api is None:
        raise NotFound("this engine has no OpenAI API")
    return api


async def hold() -> AsyncIterator[ExitStack]:
    """Resources held for a request. They are released once the answer has been sent, or earlier if
    the request ends before its first byte."""
    with ExitStack() as held:
        yield held


OpenAIDep = Annotated[OpenAIAPI, Depends(openai)]
HoldDep = Annotated[ExitStack, Depends(hold)]


@router.post("/chat/completions", response_model=None)
async def chat_completions(
    request: Request,
    service: ServiceDep,
    api: OpenAIDep,
    held: HoldDep,
    body: Annotated[dict[str, Any], Body(examples=[CHAT])],
) -> Response:
    """OpenAI's chat completions, including `stream`.

    A stream that can't begin is answered with the error's status. One that ends early, for example
    past its deadline, says so in its last event, `data: {"error": …}`.

    See https://platform.openai.com/docs/api-reference.
    """
    accepted = accept(body, chat_tokens, request, service, held)
    return respond(await api.chat(accepted, request.headers))


@router.post("/completions", response_model=None)
async def completions(
    request: Request,
    service: ServiceDep,
    api: OpenAIDep,
    held: HoldDep,
    body: Annotated[dict[str, Any], Body(examples=[COMPLETION])],
) -> Response:
    """OpenAI's completions, including `stream`."""
    accepted = accept(body, completion_tokens, request, service, held)
    return respond(await api.complete(accepted, request.headers))


@router.get("/models")
async def models(service: ServiceDep) -> ModelList:
    """List the names that requests can use: the base or merged model, its adapters, and aliases."""
    return ModelList(data=cards(service))


@router.get("/models/{model:path}")
async def model(model: str, service: ServiceDep) -> ModelCard:
    """One of the names that `/v1/models` lists."""
    found = next((card for card in cards(service) if card.id == model), None)
    if found is None:
        raise ModelNotFound(f"model {model!r} is not served", "model")
    return found


def cards(service: Service) -> list[ModelCard]:
    served, length = service.models, None
    with suppress(EngineUnavailable):
        length = service.engine.max_prompt_tokens + 1
    parents = {m.name: served.base.name if m.version else None for m in served}
    ranked = {m.name for m in served if m.ranking is not None} - served.aliases.keys()
    names = parents | dict.fromkeys(served.aliases)
    return [
        ModelCard(
            id=name, created=STARTED, parent=parent, ranker=name in ranked, max_model_len=length
        )
        for name, parent in names.items()
    ]


def accept(
    body: dict[str, Any],
    count_tokens: Callable[[dict[str, Any], Limits], Tokens],
    request: Request,
    service: Service,
    held: ExitStack,
) -> dict[str, Any]:
    """Choose and hold the request's model, count its tokens, and return the body for the engine.

    OpenAI's `user` identifies the reader. Raises BadRequest, ModelNotFound or Overloaded.
    """
    check_encodable(body)
    name, user = body.get("model"), body.get("user")
    for field, value in (("model", name), ("user", user)):
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{field} must be a string", field)
    tokens = count_tokens(body, service.settings.limits)
    model = choose(request, service, name, user).model
    held.enter_context(service.models.at_work(model))
    held.enter_context(service.recommender.turns.generation(*tokens))
    return {**body, "model": model.adapter or model.name}


def respond(answer: OpenAIAnswer) -> Response:
    if isinstance(answer, Mapping):
        return JSONResponse(answer)
    return StreamingResponse(answer, media_type=EVENT_STREAM)
