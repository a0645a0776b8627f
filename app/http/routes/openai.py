"""OpenAI's routes. vLLM's own serving code answers chat and completions on the same engine; the
list of models is ours."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from app.engine.base import OpenAIAnswer, OpenAIAPI
from app.errors import BadRequest, NotFound
from app.http.dependencies import ERRORS, ServiceDep, choose
from app.http.schemas import ErrorResponse, ModelCard, ModelList
from app.service import Service

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

    See https://platform.openai.com/docs/api-reference.
    """
    accepted = accept(body, request, service, held)
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
    accepted = accept(body, request, service, held)
    return respond(await api.complete(accepted, request.headers))


@router.get("/models")
async def models(service: ServiceDep) -> ModelList:
    """List the names that requests can use: the base or merged model, its adapters, and aliases."""
    served, length = service.models, service.engine.max_prompt_tokens + 1
    parents = {m.name: served.base.name if m.version else None for m in served}
    names = parents | dict.fromkeys(served.aliases)
    return ModelList(
        data=[
            ModelCard(id=name, created=STARTED, parent=parent, max_model_len=length)
            for name, parent in names.items()
        ]
    )


def accept(
    body: dict[str, Any], request: Request, service: Service, held: ExitStack
) -> dict[str, Any]:
    """Choose and hold the request's model, count its tokens, and return the body for the engine.

    OpenAI's `user` identifies the reader. Raises BadRequest, ModelNotFound or Overloaded.
    """
    name, user = body.get("model"), body.get("user")
    for field, value in (("model", name), ("user", user)):
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{field} must be a string", field)
    model = choose(request, service, name, user).model
    held.enter_context(service.models.at_work(model))
    held.enter_context(service.admission.work(estimate(body)))
    return {**body, "model": model.adapter or model.name}


def respond(answer: OpenAIAnswer) -> Response:
    if isinstance(answer, Mapping):
        return JSONResponse(answer)
    return StreamingResponse(answer, media_type="text/event-stream")


def estimate(body: dict[str, Any]) -> int:
    """A rough token count before vLLM has tokenized the text, at four characters a token."""
    texts = body.get("messages") or body.get("prompt") or ""
    return len(str(texts)) // 4 + 1
