"""Hooks of Schemathesis, which never makes these by itself: half surrogates and integers beyond 64
bits, among the strings and numbers of what it sends. It loads them by SCHEMATHESIS_HOOKS.

To OpenAI's routes, whose fields the API description leaves open, it sends valid requests with some
of their fields.
"""

import copy
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import HookContext

from tests.fuzz.fields import several
from tests.fuzz.templates import CHAT, COMPLETION

OPENAI: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "/v1/chat/completions": (
        {"messages": [{"role": "user", "content": "Rain?"}], "max_tokens": 2},
        CHAT,
    ),
    "/v1/completions": ({"prompt": "Rain", "max_tokens": 2}, COMPLETION),
}
"""By route: a valid body, and fields that it may have besides."""
HALVES = st.builds("{}{}{}".format, st.text(), st.characters(categories=["Cs"]), st.text())
HUGE = st.integers(min_value=2**63) | st.integers(max_value=-(2**63) - 1)


@schemathesis.hook
def flatmap_body(context: HookContext, body: Any) -> st.SearchStrategy[Any]:
    """The body as it is, or with one odd value in it."""
    path = context.operation.path if context.operation else ""
    if path not in OPENAI or not isinstance(body, dict):
        return with_odd_value(body)
    whole, fields = OPENAI[path]
    names = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)
    some = names.map(lambda chosen: {name: several(fields[name])[0] for name in chosen})
    return some.flatmap(lambda values: with_odd_value({**body, **whole, **values}))


@schemathesis.hook
def flatmap_query(context: HookContext, query: Any) -> st.SearchStrategy[Any]:
    """Numbers only: half a surrogate has no form in a URL."""
    if not query:
        return st.just(query)
    return st.just(query) | HUGE.map(lambda number: dict.fromkeys(query, number))


def with_odd_value(body: Any) -> st.SearchStrategy[Any]:
    spots = list(leaves(body))
    if not spots:
        return st.just(body)
    return st.just(body) | st.sampled_from(spots).flatmap(
        lambda spot: odd(spot[-1]).map(lambda value: replaced(body, spot[:-1], value))
    )


def leaves(value: Any, *way: Any) -> Iterator[tuple[Any, ...]]:
    """The way to each value that holds no others, its keys and indexes, and then the value."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, *way, key)
    elif way:
        yield *way, value


def odd(value: Any) -> st.SearchStrategy[Any]:
    """Of the same type if possible, since that gets furthest."""
    if isinstance(value, str):
        return HALVES
    return HUGE if isinstance(value, int | float) else HALVES | HUGE


def replaced(body: Any, way: tuple[Any, ...], value: Any) -> Any:
    changed = part = copy.deepcopy(body)
    for key in way[:-1]:
        part = part[key]
    part[way[-1]] = value
    return changed
