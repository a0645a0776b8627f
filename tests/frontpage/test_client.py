"""The Python client on the real application with the fake engine, over HTTP; each call is tried on
both clients."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI

from app.feedback.figures import ExperimentsResponse
from app.http.schemas import predictions
from app.http.schemas.events import Click, Impression
from app.http.schemas.predictions import RankedStory, RankResponse
from app.http.schemas.recommendations import RecommendRequest
from app.http.schemas.stories import SentStory, Story
from frontpage import calls
from frontpage.client import (
    AsyncClient,
    Client,
    Conflict,
    FrontpageError,
    InvalidRequest,
    NotFound,
)
from tests.support.adapter_calls import room_for_two, three_versions
from tests.support.models import ROOT, SMOLLM2
from tests.support.servers import serving
from tests.support.waiting import HANG_S
from tools.openapi import COMMITTED

Ask = Callable[..., Awaitable[Any]]
"""Calls a method by its name."""
FINAL = Story(id="N2", title="Cup final goes to penalties", category="sports")

root = pytest.fixture(three_versions)
settings = pytest.fixture(room_for_two)


def asking(client: Client | AsyncClient) -> Ask:
    async def ask(method: str, *arguments: Any, **options: Any) -> Any:
        call = getattr(client, method)
        if isinstance(client, AsyncClient):
            return await call(*arguments, **options)
        return await asyncio.to_thread(call, *arguments, **options)

    return ask


@pytest.fixture(params=[Client, AsyncClient])
async def ask(
    app: FastAPI, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ask]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with serving(app) as url:
        client = request.param(url, timeout_s=HANG_S)
        yield asking(client)
        closed = client.close()
        if closed is not None:
            await closed


async def test_predictions(ask: Ask) -> None:
    history: list[Any] = ["Late comeback", Story(title="Cup final"), {"title": "Rookie wins"}]
    one = await ask("predict", FINAL, history=history, explain=False)
    assert 0 < one.probability < 1
    assert one.history_used == 3
    many = await ask("predict_batch", [{"history": history, "target": FINAL}] * 2)
    assert [found.probability for found in many.results] == [one.probability] * 2
    ranked = await ask("rank", ["Stocks fall", FINAL], history=history, top_k=1, shortlist="all")
    assert isinstance(ranked, RankResponse)
    [best] = ranked.results
    assert isinstance(best, RankedStory)
    alone = await ask("rank", [FINAL], time=datetime.now(UTC), reader_id="u1", degraded="refuse")
    assert [story.id for story in alone.results] == ["N2"]


async def test_stories_events_and_recommendations(ask: Ask) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    stories = [
        SentStory(id="N1", title="Stocks fall"),
        {"id": "a/b c?", "title": "Cup final", "published_at": yesterday},
    ]
    assert (await ask("put_stories", stories)).stored == 2
    kept = await ask("get_story", "a/b c?")
    assert (kept.title, kept.published_at) == ("Cup final", yesterday)
    events = [
        Impression(type="impression", id="i1", stories=["N1", "a/b c?"]),
        Click(type="click", story="N1", impression_id="i1"),
        {"type": "click", "story": "N1", "time": yesterday, "reader_id": "u/1"},
    ]
    taken = await ask("post_events", events)
    assert (taken.accepted, taken.duplicates) == (3, 0)
    async with asyncio.timeout(HANG_S):
        while len((found := await ask("recommend", top_k=5, exclude=["N9"])).results) < 2:
            await asyncio.sleep(0.05)
    assert {story.id for story in found.results} == {"N1", "a/b c?"}
    known = await ask("get_reader", "u/1")
    assert [story.id for story in known.history] == ["N1"]
    assert (await ask("delete_reader", "u/1")).clicks == 1
    assert (await ask("delete_story", "a/b c?")).stories == 1
    with pytest.raises(NotFound):
        await ask("get_story", "a/b c?")


async def test_an_event_gets_an_id_so_that_it_counts_once() -> None:
    sent: list[Any] = [
        Click(type="click", story="N1"),
        {"type": "click", "story": "N1", "id": "c1"},
    ]
    first, second = (calls.post_events(sent).body for _ in range(2))
    assert first is not None
    assert second is not None
    ids = [event["id"] for event in (*first["events"], *second["events"])]
    assert len(set(ids)) == 3
    assert ids[1] == ids[3] == "c1"


async def test_feedback_and_experiments(ask: Ask) -> None:
    answer = await ask("rank", ["Stocks fall", "Cup final"])
    index = answer.results[0].index
    told = await ask("give_feedback", answer.id, index=index, clicked=True)
    assert (told.id, told.index, told.model, told.clicked) == (answer.id, index, SMOLLM2.name, True)
    async with asyncio.timeout(HANG_S):
        while not (report := await ask("experiments", days=1)).models:
            await asyncio.sleep(0.05)
    assert isinstance(report, ExperimentsResponse)
    assert (report.models[0].impressions, report.models[0].clicks) == (2, 1)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert (await ask("experiments", since=tomorrow)).models == []


async def test_adapters_and_aliases(ask: Ask) -> None:
    loaded = await ask("load_adapter", "news", "v1", timeout_s=HANG_S)
    assert (loaded.name, loaded.version, loaded.status) == ("news", 1, "serving")
    assert [one.name for one in (await ask("list_adapters")).adapters] == ["news"]
    alias = await ask("set_alias", "default", {"news": 1})
    assert (alias.alias, alias.weights) == ("default", {"news": 1.0})
    assert (await ask("list_aliases")).aliases == [alias]
    assert (await ask("predict", "Cup final")).model == "news"
    with pytest.raises(Conflict) as refused:
        await ask("unload_adapter", "news")
    assert refused.value.code == "conflict"
    assert (await ask("remove_alias", "default")).removed == "default"
    assert (await ask("unload_adapter", "news")).removed == "news"


@pytest.mark.parametrize(
    ("method", "arguments", "options", "kind", "status", "code", "field"),
    [
        ("predict", [" "], {}, InvalidRequest, 422, "invalid_value", "target.title"),
        ("predict", ["t"], {"histroy": []}, InvalidRequest, 422, "invalid_value", "histroy"),
        ("predict", ["t"], {"model": "none"}, NotFound, 404, "model_not_found", "model"),
        ("post_events", [[{"type": "click"}]], {}, InvalidRequest, 422, None, "events.0.story"),
        ("experiments", [], {"days": -1}, InvalidRequest, 422, "invalid_value", "days"),
        ("give_feedback", ["none"], {"clicked": True}, NotFound, 404, "not_found", "id"),
    ],
)
async def test_errors_carry_the_services_code_field_and_message(
    ask: Ask,
    method: str,
    arguments: list[Any],
    options: dict[str, Any],
    kind: type[FrontpageError],
    status: int,
    code: str | None,
    field: str,
) -> None:
    with pytest.raises(kind) as raised:
        await ask(method, *arguments, **options)
    error = raised.value
    assert (error.status, error.field) == (status, field)
    assert error.code == (code or "invalid_value")
    assert error.request_id
    assert error.message == str(error)
    assert error.message


def test_the_options_are_the_schemas_fields() -> None:
    for options, own, request in (
        (calls.PredictOptions, {"target"}, predictions.PredictRequest),
        (calls.BatchOptions, {"pairs"}, predictions.BatchRequest),
        (calls.RankOptions, {"candidates"}, predictions.RankRequest),
        (calls.RecommendOptions, set[str](), RecommendRequest),
    ):
        assert options.__optional_keys__ | own == request.model_fields.keys()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_there_is_a_call_for_each_operation(kind: type) -> None:
    """Of the service's own routes, but for those that probes and Prometheus call."""
    paths = json.loads(COMMITTED.read_text(encoding="utf-8"))["paths"]
    others = ("/v1/", "/health", "/ready", "/metrics")
    operations = {
        operation["summary"].lower().replace(" ", "_")
        for path, methods in paths.items()
        if not path.startswith(others)
        for operation in methods.values()
    }
    made = set(vars(kind)) - {"send", "close"}
    assert {name for name in made if not name.startswith("_")} == operations


def test_importing_the_client_is_light() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import frontpage.client"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"frontpage.client", "app.http.schemas.predictions", "httpx"} <= modules
    heavy = {"vllm", "torch", "transformers", "numpy", "sqlalchemy", "fastapi", "starlette"}
    assert not {name.split(".")[0] for name in modules} & heavy
    assert not modules & {"app.main", "app.service"}
