"""OpenAI's API on vLLM's own serving code. Only this file imports vLLM's OpenAI entrypoints."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Self, TypeVar, cast

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, State
from starlette.requests import Request
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM

try:  # vLLM from 0.30 on
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse
    from vllm.exceptions import GenerationError
except ImportError:  # vLLM 0.26
    from vllm.entrypoints.openai.api_server import init_app_state
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.entrypoints.openai.engine.protocol import ErrorResponse, GenerationError

from app.engine.async_llm import DIED, ENGINE_ERRORS, engine_failure
from app.engine.base import OpenAIAnswer
from app.engine.openai_errors import (
    CLIENT_ERRORS,
    FULL,
    as_service_error,
    bad_request,
    error_event,
    failed_generation,
    invalid_body,
    invalid_part,
)
from app.errors import BadRequest, EngineUnavailable, Overloaded, ServiceError
from app.settings import Settings

Wire = TypeVar("Wire", bound=BaseModel)
PRIORITY_HEADER, MAX_DIGITS = b"x-vllm-priority", 19


class VllmOpenAI:
    """Chat completions and completions on a running vLLM engine."""

    def __init__(self, llm: AsyncLLM, state: State) -> None:
        self._llm = llm
        self._state = state

    @classmethod
    async def create(cls, llm: AsyncLLM, settings: Settings, loras: dict[str, LoRARequest]) -> Self:
        """loras: a dict shared with the engine, so that adapters it loads are served here too."""
        state = State()
        tasks = await llm.get_supported_tasks()
        await init_app_state(llm, state, serving_arguments(settings), tasks)
        state.openai_serving_models.lora_requests = loras
        state.openai_serving_models.model_name = public_name(settings.base_name)
        return cls(llm, state)

    async def chat(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer:
        serving = self._state.openai_serving_chat.create_chat_completion
        return await self._ask(serving, ChatCompletionRequest, body, headers)

    async def complete(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer:
        serving = self._state.openai_serving_completion.create_completion
        return await self._ask(serving, CompletionRequest, body, headers)

    async def _ask(
        self, serving: Any, schema: type[Wire], body: dict[str, Any], headers: Mapping[str, str]
    ) -> OpenAIAnswer:
        """Return vLLM's answer unchanged and raise its errors as ours."""
        asked = read(schema, body)
        with self._errors_as_ours(body):
            answer = await serving(asked, as_request(headers))
            if cancelled():  # vLLM answers "Client disconnected" instead of ending
                raise asyncio.CancelledError
            if not isinstance(answer, BaseModel):
                return await self._begin(answer, body)
        if isinstance(answer, ErrorResponse):
            raise self._refused(answer.error.model_dump(), body)
        return answer.model_dump()

    @contextmanager
    def _errors_as_ours(self, body: dict[str, Any]) -> Iterator[None]:
        """Raise what vLLM raises for a body as one of our errors, if its reason is known."""
        try:
            yield
        except ENGINE_ERRORS as error:
            if failure := engine_failure(self._llm, error):
                raise failure from error
            raise
        except FULL as error:
            raise Overloaded(str(error)) from error
        except GenerationError as error:
            if failure := failed_generation(body):
                raise failure from error
            raise
        except ValidationError:
            raise invalid_part(body) from None
        except CLIENT_ERRORS as error:
            raise bad_request(error, body) from error

    async def _begin(self, stream: AsyncGenerator[str], body: dict[str, Any]) -> AsyncIterator[str]:
        """Wait for a stream's first event, so that what goes wrong before is an error with its own
        status, not an event of an answer that began well."""
        first = await anext(stream)
        if problem := error_event(first):
            await stream.aclose()
            raise self._refused(problem, body)
        return resume(first, stream)

    def _refused(self, problem: Mapping[str, Any], body: dict[str, Any]) -> ServiceError:
        return EngineUnavailable(DIED) if self._llm.errored else as_service_error(problem, body)


async def resume(first: str, stream: AsyncGenerator[str]) -> AsyncIterator[str]:
    async with aclosing(stream):
        yield first
        async for event in stream:
            yield event


def cancelled() -> bool:
    """Whether the running task was told to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def read(schema: type[Wire], body: dict[str, Any]) -> Wire:
    """The body as vLLM's type. Raises BadRequest."""
    if body.get("tools") and body.get("tool_choice") != "none":
        raise BadRequest("tools: this service does not call tools", "tools")
    try:
        asked: Any = schema.model_validate(body)
    except Exception as error:  # vLLM's checks of a field fail in many ways
        raise invalid_body(schema, body, error) from error
    if current_platform.is_cpu() and asked.seed is not None:
        # In vLLM 0.32, the engine dies when it computes a prompt in chunks: "CPU Generator does not
        # use offset". Where nothing is drawn at random, the seed changes nothing.
        if asked.temperature != 0 and not asked.use_beam_search:
            problem = "vLLM does not support it on a CPU, except where it changes nothing"
            raise BadRequest(f"seed: {problem} (temperature 0)", "seed")
        asked.seed = None
    return cast(Wire, asked)


def public_name(base: str) -> Callable[[LoRARequest | None], str]:
    """Name models in answers without the adapter's version, which only we and the engine know."""

    def name(lora: LoRARequest | None = None) -> str:
        return base if lora is None else lora.lora_name.rpartition("@")[0]

    return name


def serving_arguments(settings: Settings) -> Namespace:
    """The arguments of `vllm serve` at their defaults, except the model and usage details."""
    parser = make_arg_parser(FlexibleArgumentParser())
    arguments: Namespace = parser.parse_args([])
    arguments.model = str(settings.model)
    arguments.served_model_name = [settings.base_name]
    arguments.enable_prompt_tokens_details = True
    return arguments


def as_request(headers: Mapping[str, str]) -> Request:
    """A request with all that vLLM uses: the headers, and room for its own state.

    vLLM ignores a priority that is no number. One that may not fit into 64 bits is left out, since
    vLLM would fail on it.
    """
    sent = [
        (name, value)
        for name, value in Headers(headers).raw
        if name != PRIORITY_HEADER or len(value) < MAX_DIGITS
    ]
    return Request({"type": "http", "headers": sent})
