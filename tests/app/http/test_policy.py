"""The table of paths: every route is in it, and everyone reads the same."""

import json
import re

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route

from app.http.policy import POLICIES, WORK_PATHS, policy_of


def routes(app: FastAPI) -> dict[str, set[str]]:
    """Path → methods; a mounted application's are not known."""
    found: dict[str, set[str]] = {}
    for route in app.routes:
        assert isinstance(route, Route | Mount)
        found.setdefault(route.path, set()).update(getattr(route, "methods", None) or ())
    return found


def test_every_route_is_in_the_table_and_nothing_else(app: FastAPI) -> None:
    assert set(routes(app)) == set(POLICIES)


def test_a_route_that_is_forgotten_shows(app: FastAPI) -> None:
    @app.get("/forgotten")
    async def forgotten() -> None: ...

    assert set(routes(app)) - set(POLICIES) == {"/forgotten"}


def test_work_is_posted(app: FastAPI) -> None:
    assert all("POST" in routes(app)[path] for path in WORK_PATHS)


async def test_the_page_counts_the_same_work(client: httpx.AsyncClient) -> None:
    script = await client.get("/page/work.js")
    assert script.headers["content-type"].startswith("text/javascript")
    found = re.fullmatch(r"export const WORK = new Set\((\[.*\])\);\n", script.text)
    assert found is not None
    assert json.loads(found[1]) == list(WORK_PATHS)


@pytest.mark.parametrize(
    ("path", "scope", "rate_limited"),
    [
        ("/rank", "predict", True),
        ("//rank", "predict", True),
        ("/v1/embeddings", "predict", True),
        ("/nothing", "predict", False),
        ("/adapters/a/b", "admin", False),
        ("/Aliases", "admin", False),
        ("/experimentsX", "admin", False),
        ("/readers/u/1", "admin", False),
        ("/stories/https://site.example/1", "events", True),
        ("//Events", "events", True),
        ("/page/dom.js", None, False),
        ("/health", None, False),
        ("/healthy", "predict", False),
    ],
)
def test_paths_and_what_looks_like_them(path: str, scope: str | None, rate_limited: bool) -> None:
    found = policy_of(path)
    assert (found.scope, found.rate_limited) == (scope, rate_limited)


def test_only_exact_paths_are_work() -> None:
    assert policy_of("/rank").work
    assert not policy_of("//rank").work
    assert not policy_of("/v1/models").work
