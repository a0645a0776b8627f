"""OpenAI's API by vLLM's own serving code: the only file that imports vLLM's OpenAI entrypoints."""

from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, State
from starlette.requests import Request
from vllm import exceptions
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

try:  # vLLM from 0.30 on
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse
except ImportError:  # vLLM 0.26
    from vllm.entrypoints.openai.api_server import init_app_state
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.entrypoints.openai.engine.protocol import ErrorResponse

from app.engine.base import OpenAIAnswer
from app.errors import (
    BadRequest,
    EngineUnavailable,
    ModelNotFound,
    ServiceError,
    from_validation,
)
from app.settings import Settings

CLIENT_ERRORS = (
    getattr(exceptions, "VLLMClientError", ValueError),
    *(ValueError, TypeError, OverflowError, NotImplementedError),
)
"""What vLLM's wire types and serving code raise for a request they can't take: its own type, and
Python's where it has not moved to that (in 0.26 everywhere)."""


class VllmOpenAI:
    """Chat completions and completions."""

    def __init__(self, state: State) -> None:
        self._state = state

    @classmethod
    async def create(cls, llm: AsyncLLM, settings: Settings, loras: dict[str, LoRARequest]) -> Self:
        """`loras` is shared with the engine: what it loads is served here too."""
        state = State()
        tasks = await llm.get_supported_tasks()
        await init_app_state(llm, state, serving_arguments(settings), tasks)
        state.openai_serving_models.lora_requests = loras
        state.openai_serving_models.model_name = public_name(settings.base_name)
        return cls(state)

    async def chat(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer:
        serving = self._state.openai_serving_chat.create_chat_completion
        return await ask(serving, ChatCompletionRequest, body, headers)

    async def complete(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer:
        serving = self._state.openai_serving_completion.create_completion
        return await ask(serving, CompletionRequest, body, headers)


def public_name(base: str) -> Callable[[LoRARequest | None], str]:
    """What answers call a model: an adapter's version stays between us and the engine."""

    def name(lora: LoRARequest | None = None) -> str:
        return base if lora is None else lora.lora_name.rpartition("@")[0]

    return name


def serving_arguments(settings: Settings) -> Namespace:
    """The arguments of `vllm serve` at their defaults, but for the model and usage details."""
    parser = make_arg_parser(FlexibleArgumentParser())
    arguments: Namespace = parser.parse_args([])
    arguments.model = str(settings.model)
    arguments.served_model_name = [settings.base_name]
    arguments.enable_prompt_tokens_details = True
    return arguments


async def ask(
    serving: Any, schema: type[BaseModel], body: dict[str, Any], headers: Mapping[str, str]
) -> OpenAIAnswer:
    """vLLM's answer as it is, its errors as ours."""
    if current_platform.is_cpu() and body.get("seed") is not None:
        # 0.32: "CPU Generator does not use offset" ends the engine when a prompt is read in parts.
        raise BadRequest("seed: vLLM does not support it on a CPU", "seed")
    try:
        answer = await serving(schema.model_validate(body), as_request(headers))
    except ValidationError as error:
        raise from_validation(error.errors(), BadRequest) from None
    except (EngineDeadError, EngineGenerateError) as error:
        raise EngineUnavailable("the engine has died") from error
    except CLIENT_ERRORS as error:
        param = getattr(error, "parameter", None)
        raise BadRequest(str(error) or type(error).__name__, param) from error
    if isinstance(answer, ErrorResponse):
        raise as_service_error(answer)
    if isinstance(answer, BaseModel):
        return answer.model_dump()
    stream: AsyncIterator[str] = answer
    return stream


def as_request(headers: Mapping[str, str]) -> Request:
    """What vLLM reads of a request: its headers, and a place for notes of its own."""
    return Request({"type": "http", "headers": Headers(headers).raw})


def as_service_error(answer: Any) -> ServiceError:
    """vLLM's error answer → ours."""
    problem = answer.error
    status = int(problem.code)
    if status == 404:
        return ModelNotFound(problem.message, "model")
    if status in (500, 503):
        return EngineUnavailable(problem.message)
    return BadRequest(problem.message, problem.param)
