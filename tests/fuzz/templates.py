"""Valid requests of all routes, and valid values for the fields of OpenAI's."""

from dataclasses import dataclass
from typing import Any

MODEL = "news-smollm2"
STORY = {"id": "N1", "title": "Cup final goes to penalties", "category": "sports"}
READER = {
    "history": ["Rookie breaks the touchdown record", STORY],
    "liked": ["Quarterback leads late comeback"],
    "disliked": ["15 cozy soups to make this fall"],
    "reader_id": "reader-1",
    "model": MODEL,
}
EVENTS = [
    {"type": "impression", "id": "i1", "time": 1e9, "reader_id": "u1", "stories": ["N1", "N2"]},
    {"type": "click", "time": "2026-03-01T07:00:00Z", "story": "N1", "impression_id": "i1"},
]
SCHEMA = {
    "type": "object",
    "properties": {"click": {"type": "boolean"}, "tags": {"enum": ["a", "b"]}},
    "required": ["click"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "rank", "description": "Rank stories.", "parameters": SCHEMA},
}
CALL = {"id": "1", "type": "function", "function": {"name": "rank", "arguments": "{}"}}


class Several(list[Any]):
    """Several valid values of one field."""


SAMPLING: dict[str, Any] = {
    "allowed_token_ids": [10, 20, 30],
    "bad_words": ["rain"],
    "best_of": 1,
    "cache_salt": "salt",
    "echo": False,
    "frequency_penalty": 0.1,
    "ignore_eos": False,
    "include_stop_str_in_output": True,
    "length_penalty": 1.0,
    "logit_bias": {"100": 5},
    "logprob_token_ids": [10, 20],
    "min_p": 0.1,
    "min_tokens": 1,
    "n": 2,
    "presence_penalty": 0.1,
    "priority": 0,
    "prompt_logprobs": 1,
    "repetition_detection": {"max_pattern_size": 4, "min_count": 3},
    "repetition_penalty": 1.1,
    "request_id": "abc",
    "response_format": Several(
        [
            {"type": "json_object"},
            {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
            },
        ]
    ),
    "seed": 1,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "session_id": "one",
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "stop": Several(["Yes", ["\n", "Yes"]]),
    "stop_token_ids": [2],
    "stream": True,
    "stream_interval": 1,
    "structured_outputs": Several(
        [
            {"regex": "(Yes|No)\\."},
            {"choice": ["Yes", "No"]},
            {"grammar": 'root ::= "Yes" | "No"'},
            {"json": SCHEMA, "disable_any_whitespace": True},
            {"json_object": True, "whitespace_pattern": " "},
        ]
    ),
    "temperature": 0.5,
    "thinking_token_budget": 5,
    "top_k": 5,
    "top_p": 0.9,
    "truncate_prompt_tokens": 50,
    "truncation_side": "left",
    "use_beam_search": Several([True, False]),
    "user": "reader-1",
    "vllm_xargs": {"a": 1},
}
CHAT = SAMPLING | {
    "chat_template_kwargs": {"enable_thinking": False},
    "documents": [{"title": "a", "text": "b"}],
    "logprobs": True,
    "max_completion_tokens": 4,
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "prediction": {"type": "content", "content": "Yes"},
    "reasoning_effort": "low",
    "service_tier": "auto",
    "tool_choice": Several(
        ["none", "auto", "required", {"type": "function", "function": {"name": "rank"}}]
    ),
    "messages": Several(
        [
            [{"role": "user", "content": "Rain?"}],
            [
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "1", "content": "sun"},
            ],
        ]
    ),
    "tools": [TOOL],
    "top_logprobs": 2,
    "verbosity": "low",
}
COMPLETION = SAMPLING | {
    "logprobs": 2,
    "suffix": "",
    "prompt": Several(["Rain", ["Rain", "Sun"], [100, 200], [[100], [200, 300]]]),
}


@dataclass(frozen=True)
class Template:
    """A valid request. weight: how often it is used."""

    method: str
    path: str
    body: dict[str, Any] | None
    weight: int = 1


TEMPLATES = [
    Template(
        "POST",
        "/v1/chat/completions",
        {
            "model": MODEL,
            "max_tokens": 3,
            "messages": [
                {"role": "system", "content": "Answer Yes or No.", "name": "a"},
                {"role": "user", "content": [{"type": "text", "text": "Rain?"}]},
            ],
        },
        weight=10,
    ),
    Template(
        "POST",
        "/v1/completions",
        {"model": MODEL, "prompt": "The news today:", "max_tokens": 3},
        weight=6,
    ),
    Template("POST", "/v1/completions", {"prompt": ["One", "Two"], "max_tokens": 2}),
    Template("POST", "/v1/completions", {"prompt": [[100, 200], [300]], "max_tokens": 2}),
    Template("POST", "/predict", {**READER, "target": STORY}, weight=3),
    Template("POST", "/predict/batch", {"pairs": [{"target": STORY}], "model": MODEL}, weight=2),
    Template("POST", "/rank", {**READER, "candidates": [STORY, "Rain"], "top_k": 2}, weight=4),
    Template("POST", "/rank", {"reader_id": "u1", "candidates": [{"id": "N1"}, STORY]}),
    Template("POST", "/recommend", {**READER, "top_k": 2, "exclude": ["N2"]}),
    Template(
        "POST",
        "/recommend",
        {"reader_id": "u1", "published_within_hours": 24, "categories": ["sports"], "shortlist": 2},
    ),
    Template("PUT", "/stories", {"stories": [STORY, {**STORY, "published_at": 1e9}]}),
    Template("POST", "/events", {"events": EVENTS}),
    Template("POST", "/feedback", {"id": "8d9f2c7e", "index": 0, "clicked": True}),
    Template("POST", "/adapters", {"name": "news-v2", "path": "news-v2"}),
    Template("DELETE", "/adapters/news-v2", None),
    Template("PUT", "/aliases/split", {"weights": {MODEL: 1}}),
    Template("DELETE", "/aliases/split", None),
    Template("GET", "/experiments?days=7", None),
    Template("DELETE", "/readers/u1", None),
]
