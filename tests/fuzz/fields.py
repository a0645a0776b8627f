"""The fields that OpenAI's routes know."""

import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any, get_type_hints

from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_params

from tests.fuzz.templates import CHAT, COMPLETION, Several


@cache
def openai_fields() -> dict[str, dict[str, list[Any]]]:
    """All fields that OpenAI's client or vLLM knows, and valid values for them, by route."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, when vLLM imports it, which takes seconds
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    chat = get_type_hints(chat_params.CompletionCreateParamsBase)
    completion = get_type_hints(completion_create_params.CompletionCreateParamsBase)
    return {
        "/v1/chat/completions": with_values(CHAT, chat, ChatCompletionRequest.model_fields),
        "/v1/completions": with_values(COMPLETION, completion, CompletionRequest.model_fields),
    }


def with_values(known: dict[str, Any], *declared: Iterable[str]) -> dict[str, list[Any]]:
    """Valid values of every field that is known or declared; true and 1 if none is known."""
    names = {"stream", *known}.union(*declared)
    return {name: several(known.get(name, Several([True, 1]))) for name in names}


def several(value: Any) -> list[Any]:
    return value if isinstance(value, Several) else [value]
