"""Which candidates the language model judges, and answers without it, over HTTP."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app.admission import Admission
from app.engine.fake import FakeEngine
from app.knowledge.shortlists import DEFAULT, LAST_S, Shortlists
from app.likeness.cache import VectorCache
from app.main import create_app
from app.settings import Limits, Settings
from tests.support.models import SMOLLM2
from tests.support.rankers import MODEL, titles
from tests.support.servers import client_of
from tests.support.site_calls import Json, ask
from tests.support.waiting import HeldEngine, until

READER: Json = {"history": titles(5, seed=1)}
TARGET = {"target": "one two three"}
SOON = {"x-request-timeout-ms": "900"}


@pytest.fixture
def settings(tmp_path: Path, ranked: Path, encoder: Path) -> dict[str, Any]:
    return {"model": ranked, "encoder": encoder, "state": tmp_path}


@asynccontextmanager
async def served(
    engine: FakeEngine, settings: dict[str, Any], **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(**settings, **more), engine)
    async with app.router.lifespan_context(app), client_of(app) as client:
        client.app = app  # type: ignore[attr-defined]
        yield client


def stages(answer: Json) -> list[str]:
    return [one["stage"] for one in answer["results"]]


def places(answer: Json, stage: str) -> list[int]:
    return [one["index"] for one in answer["results"] if one["stage"] == stage]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"frontpage_{name}_total", {"model": MODEL, **labels}) or 0.0


async def test_the_language_model_judges_those_that_the_first_stage_likes_best(
    settings: dict[str, Any],
) -> None:
    engine = FakeEngine()
    async with served(engine, settings) as client:
        before = counted("stories_skipped", reason="shortlist")
        answer = await ask(client, "/rank", candidates=titles(60), **READER)
        assert counted("stories_skipped", reason="shortlist") == before + 60 - DEFAULT
        every = await ask(client, "/rank", candidates=titles(60), shortlist="all", **READER)
        engine.dead = True
        first = await ask(client, "/rank", candidates=titles(60), **READER)
    assert stages(answer) == ["text"] * DEFAULT + ["signals"] * 40
    assert stages(every) == ["text"] * 60
    assert (answer["degraded"], first["degraded"]) == (False, True)
    order = places(first, "signals")
    assert set(places(answer, "text")) == set(order[:DEFAULT])
    assert places(answer, "signals") == order[DEFAULT:]
    of_all = {one["index"]: one for one in every["results"]}
    of_first = {one["index"]: one for one in first["results"]}
    for one in answer["results"]:
        other = (of_all if one["stage"] == "text" else of_first)[one["index"]]
        assert {**one, "rank": 0} == {**other, "rank": 0}
    text = [one["probability"] for one in answer["results"][:DEFAULT]]
    assert text == sorted(text, reverse=True)
    assert answer["usage"]["prompt_tokens"] < every["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("asked", "setting", "judged"),
    [(7, None, 7), (None, 9, 9), ("all", 9, 30), (100, 9, 30), (1, 9, 1)],
)
async def test_how_many_are_judged(
    settings: dict[str, Any], asked: object, setting: int | None, judged: int
) -> None:
    async with served(FakeEngine(), settings, shortlist=setting) as client:
        answer = await ask(client, "/rank", candidates=titles(30), shortlist=asked, **READER)
    assert stages(answer).count("text") == judged
    assert stages(answer) == sorted(stages(answer), reverse=True)


async def test_equal_stories_are_judged_together(settings: dict[str, Any]) -> None:
    twice = [*titles(20), *titles(20)]
    async with served(FakeEngine(), settings) as client:
        answer = await ask(client, "/rank", candidates=twice, shortlist=5, explain=True, **READER)
    found = {one["index"]: one for one in answer["results"]}
    assert stages(answer).count("text") == 10
    for index in range(20):
        assert found[index]["probability"] == found[index + 20]["probability"]
        assert found[index]["stage"] == found[index + 20]["stage"]
    for one in answer["results"]:
        log_odds = math.log(one["probability"]) - math.log1p(-one["probability"])
        assert sum(one["explanation"].values()) == pytest.approx(log_odds, abs=1e-6)


async def test_a_dead_engine_is_replaced_by_the_first_stage(settings: dict[str, Any]) -> None:
    engine = FakeEngine()
    async with served(engine, settings) as client:
        engine.dead = True
        before = counted("degraded", reason="engine")
        rank = await ask(client, "/rank", candidates=titles(3), **READER)
        predict = await ask(client, "/predict", **TARGET, **READER)
        batch = await ask(client, "/predict/batch", pairs=[TARGET, TARGET])
        assert counted("degraded", reason="engine") == before + 3
        for one in (*rank["results"], predict, *batch["results"]):
            assert (one["stage"], one["text_probability"], one["label_mass"]) == (
                *("signals", None),
                None,
            )
            assert one["history_used"] == 0
        assert all(one["degraded"] for one in (rank, predict, batch))
        assert rank["usage"] == {"prompt_tokens": 0, "cached_tokens": 0}
        feedback = {"id": rank["id"], "index": 1, "clicked": True}
        assert (await client.post("/feedback", json=feedback)).status_code == 200
        for path, body in (("/rank", {"candidates": titles(3)}), ("/predict", TARGET)):
            answer = await client.post(path, json={**body, "degraded": "refuse"})
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_unavailable"
            alone = await client.post(path, json={**body, "ranker": False})
            assert alone.status_code == 503
        assert (await client.get("/health")).status_code == 503
        assert (await client.get("/ready")).status_code == 503


async def test_degraded_answers_can_be_turned_off(settings: dict[str, Any]) -> None:
    engine = FakeEngine()
    async with served(engine, settings, degraded=False) as client:
        engine.dead = True
        assert (await client.post("/predict", json=TARGET)).status_code == 503


async def test_a_model_without_a_ranker_has_nothing_else_to_answer(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with served(engine, {"model": SMOLLM2, "state": tmp_path}) as client:
        answer = await ask(client, "/rank", candidates=titles(40))
        assert stages(answer) == ["text"] * 40
        engine.dead = True
        assert (await client.post("/predict", json=TARGET)).status_code == 503


async def test_overload_is_answered_without_the_language_model(settings: dict[str, Any]) -> None:
    engine = HeldEngine()
    limits = Limits(max_pending_tokens=1)
    async with served(engine, settings, limits=limits) as client:
        engine.hold()
        first = asyncio.create_task(client.post("/predict", json=TARGET))
        await until(lambda: engine.running == 1)
        before = counted("degraded", reason="tokens")
        refused = REGISTRY.get_sample_value("frontpage_refused_total", {"reason": "tokens"}) or 0
        answer = await ask(client, "/rank", candidates=titles(50), **READER)
        assert answer["degraded"]
        assert counted("degraded", reason="tokens") == before + 1
        again = REGISTRY.get_sample_value("frontpage_refused_total", {"reason": "tokens"})
        assert again == refused  # nobody was refused
        demanding = await client.post("/predict", json={**TARGET, "degraded": "refuse"})
        assert demanding.status_code == 503
        assert demanding.json()["error"]["code"] == "overloaded"
        chat = await client.post("/v1/chat/completions", json={"messages": [], "model": MODEL})
        assert chat.status_code == 503
        engine.release()
        assert (await first).json()["degraded"] is False


async def test_a_deadline_is_kept_without_the_language_model(settings: dict[str, Any]) -> None:
    engine = HeldEngine()
    async with served(engine, settings) as client:
        await ask(client, "/rank", candidates=titles(10), **READER)  # titles are known then
        engine.hold()
        body = {"candidates": titles(10), **READER}
        answer = await client.post("/rank", json=body, headers=SOON)
        assert (answer.status_code, answer.json()["degraded"]) == (200, True)
        assert engine.running == 0  # the work was aborted
        late = await client.post("/rank", json={**body, "degraded": "refuse"}, headers=SOON)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        engine.release()


async def test_titles_that_take_too_long_are_left_out(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others count as usual."""
    *old, new = titles(5)
    async with served(FakeEngine(), settings) as client:
        every = await ask(client, "/rank", candidates=[*old, new], **READER)
        app_vectors = client.app.state.service.encoders._known  # type: ignore[attr-defined]
        for vectors in app_vectors.values():
            vectors._cache = VectorCache()
        await ask(client, "/rank", candidates=old, **READER)
        never = asyncio.Event()

        async def wait(*_: object) -> None:
            await never.wait()

        monkeypatch.setattr("app.knowledge.titles.TitleVectors._compute", wait)
        body = {"candidates": [*old, new], **READER}
        answer = await client.post("/rank", json=body, headers=SOON)
        assert answer.status_code == 200, answer.text
    known, found = (
        {one["index"]: one["probability"] for one in whole["results"]}
        for whole in (every, answer.json())
    )
    assert {index for index, one in found.items() if one == known[index]} == {0, 1, 2, 3}


async def test_titles_are_not_embedded_for_requests_that_the_engine_has_no_room_for(
    settings: dict[str, Any],
) -> None:
    engine = HeldEngine()
    async with served(engine, settings, limits=Limits(max_pending_tokens=1)) as client:
        await ask(client, "/predict", **TARGET, **READER)  # these titles are known then
        engine.hold()
        first = asyncio.create_task(client.post("/predict", json=TARGET))
        await until(lambda: engine.running == 1)
        computed, left_out = (titles_from(source) for source in ("computed", "left_out"))
        body = {"candidates": titles(9, seed=7), **READER}
        assert (await ask(client, "/rank", **body))["degraded"]
        assert titles_from("computed") == computed
        assert titles_from("left_out") == left_out + 2 * 9  # of the encoder and of the tower
        assert (await client.post("/rank", json={**body, "degraded": "refuse"})).status_code == 503
        assert titles_from("computed") == computed
        engine.release()
        assert (await first).json()["degraded"] is False
        assert not (await ask(client, "/rank", **body))["degraded"]
        assert titles_from("computed") == computed + 2 * 9


def titles_from(source: str) -> float:
    return REGISTRY.get_sample_value("frontpage_titles_total", {"source": source}) or 0.0


async def test_a_stopping_service_answers_without_the_language_model(
    settings: dict[str, Any],
) -> None:
    async with served(FakeEngine(), settings) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        service.admission.draining.set()
        assert (await ask(client, "/predict", **TARGET))["degraded"]
        demanding = await client.post("/predict", json={**TARGET, "degraded": "refuse"})
        alone = await client.post("/predict", json={**TARGET, "ranker": False})
        for answer in (demanding, alone):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")


def shortlists(least: int | None, tokens: int = 0) -> Shortlists:
    admission = Admission(100)
    admission.allow_tokens(1000)
    admission.tokens = tokens
    return Shortlists(Settings(shortlist_least=least), admission)


@pytest.mark.parametrize(
    ("tokens", "length", "limit"),
    [(0, 20, "shortlist"), (500, 20, "shortlist"), (750, 12, "load"), (2000, 4, "load")],
)
def test_the_shortlist_shrinks_with_the_queue(tokens: int, length: int, limit: str) -> None:
    assert shortlists(4, tokens).length(20, None) == (length, limit)
    assert shortlists(None, tokens).length(20, None) == (20, "shortlist")
    assert shortlists(30, tokens).length(20, None) == (20, "shortlist")


def test_the_shortlist_shrinks_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(time=lambda: 100.0)
    monkeypatch.setattr("app.knowledge.shortlists.asyncio.get_running_loop", lambda: clock)
    found = shortlists(4, 100)
    assert found.length(20, 100.5) == (20, "shortlist")  # nothing is known of the pace
    found.pace.observe(tokens=300, stories=10, at_work=600, seconds=2.0)
    assert found.length(20, 103.0 + LAST_S) == (20, "shortlist")
    assert found.length(20, 101.0 + LAST_S + 1e-6) == (6, "deadline")  # (300 - 100) / 30
    assert found.length(20, 100.0) == (4, "deadline")
