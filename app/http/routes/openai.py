"""OpenAI's routes: chat and completions answered by vLLM's own serving code on the same engine, the
list of models by ours."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from app.engine.base import OpenAIAnswer, OpenAIAPI
from app.errors import BadRequest, NotFound
from app.http.dependencies import ServiceDep, choose
from app.http.schemas import ErrorResponse, ModelCard, ModelList
from app.service import Service

router = APIRouter(
    prefix="/v1",
    tags=["OpenAI"],
    responses={
        400: {"model": ErrorResponse, "description": "A field is invalid; `param` names it"},
        404: {"model": ErrorResponse, "description": "No such model"},
        413: {"model": ErrorResponse, "description": "The body is too large"},
        503: {"model": ErrorResponse, "description": "Overloaded, or the engine can't answer"},
        504: {"model": ErrorResponse, "description": "The request ran out of time"},
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
    """What is held while a request is answered. It is given back once the answer has been sent, and
    just as well when the request ends before its first byte."""
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
    """OpenAI's chat completions, `stream` included. https://platform.openai.com/docs/api-reference"""
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
    """OpenAI's completions, `stream` included."""
    accepted = accept(body, request, service, held)
    return respond(await api.complete(accepted, request.headers))


@router.get("/models")
async def models(service: ServiceDep) -> ModelList:
    """The base or merged model, its adapters and the aliases, by the names that requests use."""
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
    """The body as the engine gets it, once the model that it names is held and its tokens are
    counted. OpenAI's `user` names the reader. Raises BadRequest, ModelNotFound, Overloaded."""
    name, user = body.get("model"), body.get("user")
    for field, value in (("model", name), ("user", user)):
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{field} must be a text", field)
    model = choose(request, service, name, user).model
    held.enter_context(service.models.at_work(model))
    held.enter_context(service.admission.work(estimate(body)))
    return {**body, "model": model.adapter or model.name}


def respond(answer: OpenAIAnswer) -> Response:
    if isinstance(answer, Mapping):
        return JSONResponse(answer)
    return StreamingResponse(answer, media_type="text/event-stream")


def estimate(body: dict[str, Any]) -> int:
    """Tokens, before vLLM has counted them: a token is about four characters."""
    texts = body.get("messages") or body.get("prompt") or ""
    return len(str(texts)) // 4 + 1
