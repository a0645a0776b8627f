"""Requests for OpenAI's routes, valid but for a few mutations, and the same for the same number."""

import random
from typing import Any

Json = dict[str, Any]
TEXTS = ("", "x", "\ud83d", "\x00", "é" * 300, "<|im_end|>", "{{ 1/0 }}", "foo**", "-1", "1500")
NUMBERS = (0, 1, -1, 2, 1500, 10**6, 2**63, -(10**30), 0.5, -0.5, 1e308, float("inf"), float("nan"))
MESSAGES: list[Json] = [
    {"role": "system", "content": "You are a reader."},
    {"role": "user", "content": [{"type": "text", "text": "Name a newspaper."}]},
]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
SHARED: Json = {
    "frequency_penalty": 0.1,
    "logit_bias": {"5": 1.0},
    "n": 1,
    "best_of": 1,
    "presence_penalty": 0.1,
    "seed": 1,
    "stop": ["\n"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.0,
    "top_p": 0.9,
    "user": "reader",
    "use_beam_search": False,
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "length_penalty": 1.0,
    "stop_token_ids": [2],
    "ignore_eos": False,
    "min_tokens": 0,
    "skip_special_tokens": True,
    "truncate_prompt_tokens": 20,
    "allowed_token_ids": [1, 2, 3],
    "prompt_logprobs": 1,
    "logprob_token_ids": [5],
    "bad_words": ["no"],
    "add_special_tokens": True,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    "structured_outputs": {"regex": "[a-z]+"},
    "priority": 0,
    "request_id": "mine",
    "session_id": "mine",
    "return_tokens_as_token_ids": True,
    "return_token_ids": True,
    "cache_salt": "salt",
    "kv_transfer_params": {"a": 1},
    "vllm_xargs": {"a": 1},
    "repetition_detection": {"max_pattern_size": 2},
    "thinking_token_budget": 5,
    "stream_interval": 2,
    "echo": True,
}
CHAT: Json = {
    "messages": MESSAGES,
    "logprobs": True,
    "top_logprobs": 2,
    "max_completion_tokens": 3,
    "tools": [TOOL],
    "tool_choice": "none",
    "reasoning_effort": "low",
    "parallel_tool_calls": True,
    "add_generation_prompt": True,
    "continue_final_message": False,
    "documents": [{"title": "a", "text": "b"}],
    "chat_template_kwargs": {"enable_thinking": False},
    "media_io_kwargs": {"image": {}},
    "mm_processor_kwargs": {},
    "include_reasoning": True,
}
COMPLETION: Json = {"prompt": ["The news", "Today"], "logprobs": 1, "suffix": "x"}
REQUIRED = {"messages", "prompt"}


def mutated(number: int) -> tuple[str, Json]:
    """The path and body of one request: a few valid fields, up to three of them mutated."""
    chance = random.Random(f"1 {number}")
    path = chance.choice(("/v1/chat/completions", "/v1/completions"))
    own = CHAT if path.endswith("chat/completions") else COMPLETION
    fields = {**SHARED, **own}
    names = chance.sample(sorted(fields), chance.randint(0, 3))
    body = {name: fields[name] for name in (*names, *(REQUIRED & own.keys()))}
    for name in chance.sample(sorted(body), chance.randint(0, min(3, len(body)))):
        body[name] = mutate(body[name], chance)
    return path, {"max_tokens": 3, **body}


def mutate(value: Any, chance: random.Random) -> Any:
    """Another value in its place, or in the place of something inside it."""
    if isinstance(value, dict) and value and chance.random() < 0.7:
        key = chance.choice(sorted(value))
        rest = {name: item for name, item in value.items() if name != key}
        return rest | {chance.choice([key, *TEXTS]): mutate(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return [*value[:place], mutate(value[place], chance), *value[place + 1 :]]
    other: Any = chance.choice(
        [*TEXTS, *NUMBERS, None, True, False, [], {}, [[]], [None], {"a": []}]
    )
    return chance.choice([other, [other], {"type": other}, {"a": other}, [value, value]])
