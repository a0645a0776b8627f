"""POST /recommend: a real store, trees, encoder and live figures; the fake engine stands for the
language model."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Limits, Settings
from app.store.database import Database
from tests.support.keys import bearer, key
from tests.support.models import SMOLLM2
from tests.support.rankers import MODEL, titles
from tests.support.servers import started
from tests.support.site_calls import Json, ask, click, impression, put, refused, send, service
from tests.support.waiting import HANG_S, until

NOW = time.time()
STORIES = {f"N{number}": title for number, title in enumerate(titles(12))}
HISTORY = titles(3, seed=9)


@pytest.fixture
async def site(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path
) -> AsyncIterator[httpx.AsyncClient]:
    async with service(store_url, tmp_path, model=ranked, encoder=encoder) as client:
        yield client


async def becomes(found: Callable[[], Awaitable[Json]], right: Callable[[Json], bool]) -> Json:
    """The first answer that is right."""
    async with asyncio.timeout(HANG_S):
        while not right(answer := await found()):
            await asyncio.sleep(0.05)
    return answer


def ids(answer: Json) -> list[str]:
    return [one["id"] for one in answer["results"]]


def sources(answer: Json) -> list[str]:
    return [one["source"] for one in answer["results"]]


async def similar(client: httpx.AsyncClient) -> Json:
    """Wait until stories are recommended because they are like what the reader clicked."""
    return await becomes(
        lambda: ask(client, "/recommend", history=HISTORY, top_k=100),
        lambda answer: "similar" in sources(answer),
    )


async def recommended(client: httpx.AsyncClient, *names: str, **body: object) -> Json:
    """Wait until exactly these stories are recommended."""
    body.setdefault("top_k", 100)
    return await becomes(
        lambda: ask(client, "/recommend", **body), lambda answer: set(ids(answer)) == set(names)
    )


async def test_an_empty_store_has_nothing_to_recommend(site: httpx.AsyncClient) -> None:
    answer = await ask(site, "/recommend", history=HISTORY)
    assert (answer["results"], answer["candidates"], answer["model"]) == ([], 0, MODEL)


async def test_stored_stories_are_ranked_as_by_rank(site: httpx.AsyncClient) -> None:
    await put(site, **STORIES)
    answer = await recommended(site, *STORIES, history=HISTORY)
    ranked = await ask(
        site, "/rank", history=HISTORY, candidates=[{"id": name} for name in STORIES]
    )
    own, other = ({one["id"]: one for one in found["results"]} for found in (answer, ranked))
    for name, one in own.items():
        assert one["probability"] == pytest.approx(other[name]["probability"])
        assert one["text_probability"] == pytest.approx(other[name]["text_probability"])
        assert (one["stage"], one["title"], one["category"]) == ("text", STORIES[name], None)
    found = [one["probability"] for one in answer["results"]]
    assert found == sorted(found, reverse=True)
    assert [one["rank"] for one in answer["results"]] == list(range(1, 13))
    assert [one["index"] for one in answer["results"]] == list(range(12))
    assert (answer["candidates"], answer["ranker"], answer["degraded"]) == (12, True, False)
    top = await ask(site, "/recommend", history=HISTORY, top_k=3)
    assert ids(top) == ids(answer)[:3]


async def test_what_a_story_is_recommended_for(site: httpx.AsyncClient) -> None:
    await put(site, **STORIES)
    with_history = await similar(site)
    assert set(sources(with_history)) == {"similar", "new"}
    without = await recommended(site, *STORIES)
    assert set(sources(without)) == {"new"}
    await send(site, impression("N3", "N4"), click("N3"))
    popular = await becomes(
        lambda: ask(site, "/recommend", top_k=100),
        lambda answer: sources(answer).count("popular") == 2,
    )
    found = {one["id"] for one in popular["results"] if one["source"] == "popular"}
    assert found == {"N3", "N4"}


async def test_what_the_reader_has_clicked_is_never_recommended(site: httpx.AsyncClient) -> None:
    await put(site, **STORIES)
    await recommended(site, *STORIES)
    await send(site, click("N1", reader_id="u"))
    await recommended(site, *(STORIES.keys() - {"N1"}), reader_id="u")
    sent = await ask(site, "/recommend", history=[{"id": "N2"}, STORIES["N5"]], top_k=100)
    assert set(ids(sent)) == STORIES.keys() - {"N2", "N5"}
    assert sent["results"][0]["history_used"] == 2


async def test_filters(site: httpx.AsyncClient) -> None:
    stories = [
        {"id": "a", "title": "one", "category": "sports", "published_at": NOW - 60},
        {"id": "b", "title": "two", "category": "sports", "published_at": NOW - 7200},
        {"id": "c", "title": "three", "category": "news", "published_at": NOW - 60},
        {"id": "d", "title": "four", "category": "news"},
        {"id": "later", "title": "five", "published_at": NOW + 7200},
    ]
    assert (await site.put("/stories", json={"stories": stories})).status_code == 200
    await recommended(site, "a", "b", "c", "d")
    await recommended(site, "a", "c", published_within_hours=1)
    await recommended(site, "a", "b", categories=["sports"])
    await recommended(site, "c", published_within_hours=1, exclude=["a", "unknown"])
    await recommended(site, published_within_hours=1, categories=["no such"])
    past = {"time": NOW - 3600, "published_within_hours": 24}
    await recommended(site, "b", **past)


async def test_equal_titles_are_one_story(site: httpx.AsyncClient) -> None:
    await put(site, a="one two", b="one two", c="three")
    answer = await becomes(
        lambda: ask(site, "/recommend"), lambda answer: len(answer["results"]) == 2
    )
    assert len({one["title"] for one in answer["results"]}) == 2


async def test_feedback_names_a_recommended_story(site: httpx.AsyncClient) -> None:
    await put(site, **STORIES)
    answer = await recommended(site, *STORIES)
    chosen = answer["results"][2]
    body = {"id": answer["id"], "index": chosen["index"], "clicked": True}
    told = await site.post("/feedback", json=body)
    assert told.status_code == 200, told.text
    figure = await becomes(
        lambda: get(site, f"/stories/{chosen['id']}"), lambda one: one["live"] is not None
    )
    assert figure["live"]["clicks"] == 1
    few = await ask(site, "/recommend", top_k=2)
    beyond = {"id": few["id"], "index": 2, "clicked": True}
    assert await refused(site, "POST", "/feedback", beyond) == (422, "index")


async def get(client: httpx.AsyncClient, path: str) -> Json:
    found: Json = (await client.get(path)).json()
    return found


async def test_two_instances_recommend_each_others_stories(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.retrieval.following.WHOLE_S", 1.5)
    own = {"model": ranked, "encoder": encoder}
    async with (
        service(store_url, tmp_path / "one", **own) as one,
        service(store_url, tmp_path / "two", **own) as two,
    ):
        await put(one, **STORIES)
        for client in (one, two):
            await similar(client)
        await put(two, N0=HISTORY[0], new="ten ten ten")
        left = STORIES.keys() - {"N0"} | {"new"}
        for client in (one, two):
            await recommended(client, *left, history=HISTORY)
        assert (await two.delete("/stories/N1")).status_code == 200
        left -= {"N1"}
        assert set(ids(await ask(two, "/recommend", history=HISTORY, top_k=100))) == left
        await recommended(one, *left, history=HISTORY)


async def test_a_start_finds_the_stories_and_their_vectors(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    async with service(store_url, tmp_path / "one", model=ranked, encoder=encoder) as client:
        await put(client, **STORIES)
        await similar(client)
    async with service(store_url, tmp_path / "two", model=ranked, encoder=encoder) as client:
        await similar(client)


async def test_stories_are_recommended_while_the_store_is_away(
    site: httpx.AsyncClient, store_url: str
) -> None:
    await put(site, **STORIES)
    await recommended(site, *STORIES, history=HISTORY)
    database = Database(store_url)

    def rename(old: str, new: str) -> None:
        with database.writing() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    rename("stories", "away")
    failures = failed()
    await until(lambda: failed() > failures)  # the catalogue has noticed
    answer = await ask(site, "/recommend", history=HISTORY, top_k=100)
    assert set(ids(answer)) == STORIES.keys()
    rename("away", "stories")
    await put(site, new="ten ten ten")
    await recommended(site, *STORIES, "new", history=HISTORY)
    database.close()


def failed() -> float:
    return REGISTRY.get_sample_value("frontpage_store_failures_total") or 0.0


async def test_without_a_ranker_as_many_as_the_shortlist_are_judged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    many = {f"N{number}": f"title {number}" for number in range(30)}
    async with service(url, tmp_path) as client:
        await put(client, **many)
        answer = await becomes(
            lambda: ask(client, "/recommend", history=["a title"], top_k=100),
            lambda answer: bool(answer["results"]),
        )
        assert (len(answer["results"]), answer["candidates"], answer["ranker"]) == (20, 20, False)
        fewer = await ask(client, "/recommend", top_k=100, shortlist=5)
        every = await ask(client, "/recommend", top_k=100, shortlist="all")
        assert [len(one["results"]) for one in (fewer, every)] == [5, 30]
        assert {one["stage"] for one in every["results"]} == {"text"}


async def test_signals_answer_while_the_engine_is_dead(
    tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    engine = FakeEngine()
    app = create_app(Settings(model=ranked, encoder=encoder, state=tmp_path), engine)
    async with started(app) as client:
        await put(client, **STORIES)
        before = await recommended(client, *STORIES, history=HISTORY)
        engine.dead = True
        after = await ask(client, "/recommend", history=HISTORY, top_k=100)
        assert (before["degraded"], after["degraded"]) == (False, True)
        assert {one["stage"] for one in after["results"]} == {"signals"}
        demanded = {"history": HISTORY, "degraded": "refuse"}
        assert await refused(client, "POST", "/recommend", demanded) == (503, None)


async def test_a_title_too_long_for_the_model_is_left_out(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    async with service(url, tmp_path, limits=Limits(max_title_chars=10_000)) as client:
        await put(client, **{"long": "word " * 2000, "a": "one", "b": "two"})
        await recommended(client, "a", "b")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1001}, "top_k"),
        ({"exclude": ["a"] * 1001}, "exclude"),
        ({"exclude": ["\x00"]}, "exclude.0"),
        ({"published_within_hours": 0}, "published_within_hours"),
        ({"published_within_hours": "NaN"}, "published_within_hours"),
        ({"categories": []}, "categories"),
        ({"candidates": ["one"]}, "candidates"),
        ({"history": [{"id": "unknown"}]}, "history.0.id"),
    ],
)
async def test_bad_requests_name_the_field(
    client: httpx.AsyncClient, body: Json, field: str
) -> None:
    assert await refused(client, "POST", "/recommend", body) == (422, field)


async def test_it_can_be_turned_off_and_needs_a_key(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    async with service(url, tmp_path / "one", catalogue_stories=0) as client:
        assert await refused(client, "POST", "/recommend", {}) == (404, None)
    keys = key("predict", "predict"), key("events", "events")
    settings = Settings(state=tmp_path / "two", model=SMOLLM2, api_keys=keys)
    async with started(create_app(settings, FakeEngine())) as client:
        for name, status in ((None, 401), ("events", 403), ("predict", 200)):
            headers = {} if name is None else bearer(name)
            assert (await client.post("/recommend", json={}, headers=headers)).status_code == status
