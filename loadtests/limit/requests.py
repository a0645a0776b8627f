"""Turns questions into requests to our service and to its peers."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from loadtests.limit.closed_load import Request
from loadtests.limit.workload import Question, Workload

SERVED_NAME = "model"
"""The name that vLLM's own server is told to serve the model under."""
ORIGINAL_SAMPLING = {"temperature": 0.01, "max_tokens": 10}
"""The original project's sampling options. It parses the text that the model writes."""
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
Questions = Iterator[Question]


def predict(questions: Questions) -> Iterator[Request]:
    for question in questions:
        yield Request("/predict", encode(as_pair(question)), 1, read_ours)


def predict_batch(questions: Questions, size: int) -> Iterator[Request]:
    while True:
        body = {"pairs": [as_pair(question) for question in islice(questions, size)]}
        yield Request("/predict/batch", encode(body), size, read_ours)


def rank(questions: Questions, shortlist: int | str | None = None) -> Iterator[Request]:
    """shortlist: the field of the request; None leaves it to the service."""
    asked = {} if shortlist is None else {"shortlist": shortlist}
    for question in questions:
        stories = [as_story(number, one) for number, one in enumerate(question.targets)]
        body = {"history": history(question), "candidates": stories, **asked}
        yield Request("/rank", encode(body), len(stories), read_ours)


def chat(questions: Questions, workload: Workload, layout: str) -> Iterator[Request]:
    """One request per story."""
    for question in questions:
        for target in question.targets:
            messages = workload.messages(question.reader, target, layout)
            body = {"model": SERVED_NAME, "messages": messages, **ORIGINAL_SAMPLING, **NO_THINKING}
            yield Request("/v1/chat/completions", encode(body), 1, read_chat)


def complete(questions: Questions, workload: Workload, layout: str) -> Iterator[Request]:
    """One request per reader, with one prompt per story."""
    for question in questions:
        prompts = [prompt.tokens for prompt in workload.prompts(question, layout)]
        given = {"max_tokens": 1, "temperature": 0.0, "logprobs": 5}
        body = {"model": SERVED_NAME, "prompt": prompts, **given}
        yield Request("/v1/completions", encode(body), len(prompts), read_completions)


def score(questions: Questions, workload: Workload, layout: str) -> Iterator[Request]:
    """One request per reader to vLLM's own scoring, which takes a query and its continuations."""
    for question in questions:
        prompts = workload.prompts(question, layout)
        body = {
            "model": SERVED_NAME,
            "query": prompts[0].prefix,
            "items": [prompt.tail for prompt in prompts],
            "label_token_ids": workload.labels(layout),
        }
        read = partial(read_scores, count=len(prompts))
        yield Request("/generative_scoring", encode(body), len(prompts), read)


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
    """vLLM omits the token details if nothing was cached, though the server is asked for them."""
    usage = answer["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": details.get("cached_tokens") or 0,
        "written": usage["completion_tokens"],
    }


def read_completions(answer: dict[str, Any]) -> dict[str, Any]:
    """For several prompts vLLM reports only the cached tokens of the last one."""
    found = read_openai(answer)
    return found if len(answer["choices"]) == 1 else {**found, "cached_tokens": None}


def read_chat(answer: dict[str, Any]) -> dict[str, Any]:
    text = answer["choices"][0]["message"]["content"] or ""
    return {**read_openai(answer), "parsed": text.strip().lower().startswith(("yes", "no"))}


def read_scores(answer: dict[str, Any], count: int) -> dict[str, Any]:
    if len(answer["data"]) != count:
        raise ValueError(f"{len(answer['data'])} scores for {count} items")
    return {"prompt_tokens": answer["usage"]["prompt_tokens"]}
