"""OpenAI's routes, answered by vLLM's own serving code on the same engine."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import Response

from app.engine.base import OpenAIAPI
from app.errors import NotFound
from app.schemas import ErrorResponse

router = APIRouter(
    prefix="/v1",
    tags=["OpenAI"],
    responses={
        400: {"model": ErrorResponse, "description": "A field is wrong; `param` names it"},
        404: {"model": ErrorResponse, "description": "No such model"},
        413: {"model": ErrorResponse, "description": "The body is too large"},
        503: {"model": ErrorResponse, "description": "The engine can't answer"},
    },
)
CHAT = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Name one newspaper."}],
    "max_tokens": 10,
    "temperature": 0.01,
}
COMPLETION = {"model": "smollm2-135m-instruct", "prompt": "The news today:", "max_tokens": 10}


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
    return await api.chat(body, request)


@router.post("/completions", response_model=None)
async def completions(
    request: Request, api: OpenAIDep, body: Annotated[dict[str, Any], Body(examples=[COMPLETION])]
) -> Response:
    """OpenAI's completions, `stream` included."""
    return await api.complete(body, request)


@router.get("/models", response_model=None)
async def models(api: OpenAIDep) -> dict[str, Any]:
    """The base or merged model and the adapters, by the names that requests use."""
    return await api.models()
