"""Questions as calls of our service and of its peers."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from loadtests.limit.closed_load import Ask
from loadtests.limit.workload import Question, Workload

NAME = "model"  # what vLLM's own server is told to call it
WRITTEN = {"temperature": 0.01, "max_tokens": 10}
"""How the original project asks; it parses the text."""
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
Questions = Iterator[Question]


def predict(questions: Questions) -> Iterator[Ask]:
    for question in questions:
        yield Ask("/predict", encode(as_pair(question)), 1, read_ours)


def predict_batch(questions: Questions, size: int) -> Iterator[Ask]:
    while True:
        body = {"pairs": [as_pair(question) for question in islice(questions, size)]}
        yield Ask("/predict/batch", encode(body), size, read_ours)


def rank(questions: Questions) -> Iterator[Ask]:
    for question in questions:
        stories = [as_story(number, one) for number, one in enumerate(question.targets)]
        body = {"history": history(question), "candidates": stories}
        yield Ask("/rank", encode(body), len(stories), read_ours)


def chat(questions: Questions, workload: Workload, layout: str) -> Iterator[Ask]:
    """A call a story."""
    for question in questions:
        for target in question.targets:
            messages = workload.messages(question.reader, target, layout)
            body = {"model": NAME, "messages": messages, **WRITTEN, **NO_THINKING}
            yield Ask("/v1/chat/completions", encode(body), 1, read_chat)


def complete(questions: Questions, workload: Workload, layout: str) -> Iterator[Ask]:
    """A call a reader, with a prompt a story."""
    for question in questions:
        prompts = [prompt.tokens for prompt in workload.prompts(question, layout)]
        given = {"max_tokens": 1, "temperature": 0.0, "logprobs": 5}
        body = {"model": NAME, "prompt": prompts, **given}
        yield Ask("/v1/completions", encode(body), len(prompts), read_completions)


def score(questions: Questions, workload: Workload, layout: str) -> Iterator[Ask]:
    """vLLM's own scoring: a query, and items after it."""
    for question in questions:
        prompts = workload.prompts(question, layout)
        body = {
            "model": NAME,
            "query": prompts[0].prefix,
            "items": [prompt.tail for prompt in prompts],
            "label_token_ids": workload.labels(layout),
        }
        read = partial(read_scores, count=len(prompts))
        yield Ask("/generative_scoring", encode(body), len(prompts), read)


def encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def history(question: Question) -> list[dict[str, Any]]:
    return [{"title": one.title, "category": one.category} for one in question.reader.history]


def as_pair(question: Question) -> dict[str, Any]:
    return {"history": history(question), "target": as_story(0, question.targets[0])}


def as_story(number: int, story: Any) -> dict[str, Any]:
    return {"id": f"S{number}", "title": story.title, "category": story.category}


def read_ours(answer: dict[str, Any]) -> dict[str, Any]:
    usage = answer["usage"]
    return {name: usage[name] for name in ("prompt_tokens", "cached_tokens")}


def read_openai(answer: dict[str, Any]) -> dict[str, Any]:
    """vLLM leaves the details out when nothing was cached; the server is asked to give them."""
    usage = answer["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": details.get("cached_tokens") or 0,
        "written": usage["completion_tokens"],
    }


def read_completions(answer: dict[str, Any]) -> dict[str, Any]:
    """Of several prompts vLLM tells the cached tokens of the last one only."""
    found = read_openai(answer)
    return found if len(answer["choices"]) == 1 else {**found, "cached_tokens": None}


def read_chat(answer: dict[str, Any]) -> dict[str, Any]:
    text = answer["choices"][0]["message"]["content"] or ""
    return {**read_openai(answer), "parsed": text.strip().lower().startswith(("yes", "no"))}


def read_scores(answer: dict[str, Any], count: int) -> dict[str, Any]:
    if len(answer["data"]) != count:
        raise ValueError(f"{len(answer['data'])} scores for {count} items")
    return {"prompt_tokens": answer["usage"]["prompt_tokens"]}
