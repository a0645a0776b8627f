"""OpenAI's routes: chat and completions answered by vLLM's own serving code on the same engine, the
list of models by ours."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import Response, StreamingResponse

from app.admission import Admission
from app.engine.base import OpenAIAPI
from app.errors import BadRequest, NotFound
from app.http.dependencies import choose
from app.http.schemas import ErrorResponse, ModelCard, ModelList
from app.models.registry import ModelRegistry

router = APIRouter(
    prefix="/v1",
    tags=["OpenAI"],
    responses={
        400: {"model": ErrorResponse, "description": "A field is wrong; `param` names it"},
        404: {"model": ErrorResponse, "description": "No such model"},
        413: {"model": ErrorResponse, "description": "The body is too large"},
        503: {"model": ErrorResponse, "description": "Overloaded, or the engine can't answer"},
        504: {"model": ErrorResponse, "description": "The request's time was over"},
    },
)
CHAT = {
    "model": "news-smollm2",
    "messages": [{"role": "user", "content": "Name one newspaper."}],
    "max_tokens": 10,
    "temperature": 0.01,
}
COMPLETION = {"model": "news-smollm2", "prompt": "The news today:", "max_tokens": 10}


Serve = Callable[[dict[str, Any], Request], Awaitable[Response]]
STARTED = int(time.time())


def openai(request: Request) -> OpenAIAPI:
    api: OpenAIAPI | None = request.app.state.engine.openai
    if api is None:
        raise NotFound("this engine has no OpenAI API")
    return api


OpenAIDep = Annotated[OpenAIAPI, Depends(openai)]


@router.post("/chat/completions", response_model=None)
async def chat_completions(
    request: Request, api: OpenAIDep, body: Annotated[dict[str, Any], Body(examples=[CHAT])]
) -> Response:
    """OpenAI's chat completions, `stream` included. https://platform.openai.com/docs/api-reference"""
    return await answer(api.chat, body, request)


@router.post("/completions", response_model=None)
async def completions(
    request: Request, api: OpenAIDep, body: Annotated[dict[str, Any], Body(examples=[COMPLETION])]
) -> Response:
    """OpenAI's completions, `stream` included."""
    return await answer(api.complete, body, request)


@router.get("/models")
async def models(request: Request) -> ModelList:
    """The base or merged model, its adapters and the aliases, by the names that requests use."""
    served: ModelRegistry = request.app.state.models
    length = request.app.state.engine.max_prompt_tokens + 1
    parents = {m.name: served.base.name if m.version else None for m in served}
    names = parents | dict.fromkeys(served.aliases)
    return ModelList(
        data=[
            ModelCard(id=name, created=STARTED, parent=parent, max_model_len=length)
            for name, parent in names.items()
        ]
    )


async def answer(serve: Serve, body: dict[str, Any], request: Request) -> Response:
    """By the model that the body's names; OpenAI's `user` says the reader. Counted as work for as
    long as the answer streams."""
    name, user = body.get("model"), body.get("user")
    for field, value in (("model", name), ("user", user)):
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{field} must be a text", field)
    model = choose(request, name, user).model
    admission: Admission = request.app.state.admission
    with ExitStack() as stack:
        stack.enter_context(request.app.state.models.at_work(model))
        stack.enter_context(admission.work(estimate(body)))
        response = await serve({**body, "model": model.adapter or model.name}, request)
        if isinstance(response, StreamingResponse):
            response.body_iterator = held(response.body_iterator, stack.pop_all())
    return response


async def held(chunks: AsyncIterable[Any], stack: ExitStack) -> AsyncIterator[Any]:
    with stack:
        async for chunk in chunks:
            yield chunk


def estimate(body: dict[str, Any]) -> int:
    """Tokens, before vLLM has counted them: a token is about four characters."""
    texts = body.get("messages") or body.get("prompt") or ""
    return len(str(texts)) // 4 + 1
