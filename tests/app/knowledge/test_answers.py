"""Answers of a model with a ranker, over HTTP. The fake engine stands for the language model alone:
trees, sentence encoder, tower, store and live figures are real."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.rankers import MODEL, titles
from tests.support.site_calls import Json, ask, click, impression, put, send, service
from tests.support.waiting import HANG_S

GROUPS = {"live", "likeness", "category", "reader", "text"}
FOUR = {"a": "one two", "b": "three four", "c": "five six seven", "d": "eight nine"}
NOW = time.time()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.sqlite'}"


@pytest.fixture
async def site(
    sqlite: str, tmp_path: Path, ranked: Path, encoder: Path
) -> AsyncIterator[httpx.AsyncClient]:
    async with service(sqlite, tmp_path, model=ranked, encoder=encoder, shortlist=1000) as client:
        yield client


def by_index(answer: Json, field: str = "probability") -> list[float]:
    found = sorted(answer["results"], key=lambda one: int(one["index"]))
    return [one[field] for one in found]


def log_odds(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


async def test_the_ranker_gives_the_probability_and_the_order(site: httpx.AsyncClient) -> None:
    answer = await ask(site, "/rank", candidates=titles(20), history=titles(5, seed=1))
    assert (answer["model"], answer["ranker"], answer["explored"]) == (MODEL, True, False)
    found = [one["probability"] for one in answer["results"]]
    assert found == sorted(found, reverse=True)
    assert all(0 < one < 1 for one in found)
    own = by_index(answer)
    text = by_index(answer, "text_probability")
    assert all(one != other for one, other in zip(own, text, strict=True))
    assert all(one["explanation"] is None for one in answer["results"])


async def test_the_language_model_alone_is_asked_for(site: httpx.AsyncClient) -> None:
    body: Json = {"candidates": titles(20), "history": titles(5, seed=1)}
    with_ranker = await ask(site, "/rank", **body)
    alone = await ask(site, "/rank", **body, ranker=False, explain=True)
    assert (alone["ranker"], alone["model"]) == (False, f"{MODEL}:text")
    assert by_index(alone) == by_index(alone, "text_probability")
    assert by_index(alone) == by_index(with_ranker, "text_probability")
    assert [one["index"] for one in alone["results"]] != [
        one["index"] for one in with_ranker["results"]
    ]
    assert all(one["explanation"] is None for one in alone["results"])


async def test_explanations_are_the_log_odds_and_at_most_fifty(site: httpx.AsyncClient) -> None:
    history = titles(5, seed=1)
    ranked = await ask(site, "/rank", candidates=titles(60), history=history, explain=True)
    pairs = [{"target": title, "history": history} for title in titles(60)]
    batch = await ask(site, "/predict/batch", pairs=pairs, explain=True)
    for answer in (ranked, batch):
        explained = [one["explanation"] is not None for one in answer["results"]]
        assert explained == [True] * 50 + [False] * 10
    alone = await ask(site, "/predict", target=titles(1)[0], history=history, explain=True)
    for one in [*ranked["results"][:50], *batch["results"][:50], alone]:
        parts = dict(one["explanation"])
        assert set(parts) == GROUPS | {"baseline"}
        assert sum(parts.values()) == pytest.approx(log_odds(one["probability"]), abs=1e-6)
    likeness = {one["explanation"]["likeness"] for one in ranked["results"][:50]}
    assert len(likeness) > 25


async def test_clicks_change_the_order(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    async with service(
        store_url, tmp_path, model=ranked, encoder=encoder, shortlist=1000
    ) as client:
        await put(client, **FOUR)
        body: Json = {"candidates": [{"id": name} for name in FOUR], "explain": True}
        before = await ask(client, "/rank", **body)
        last = before["results"][-1]["id"]
        for reader in ("u1", "u2", "u3", "u4", "u5"):
            shown = impression(*FOUR, reader_id=reader, time=NOW - 60)
            await send(client, shown, click(last, reader_id=reader, time=NOW - 30))
        async with asyncio.timeout(HANG_S):
            while (after := await ask(client, "/rank", **body))["results"][0]["id"] != last:
                await asyncio.sleep(0.05)
        assert by_index(after, "text_probability") == by_index(before, "text_probability")
        assert after["results"][0]["explanation"]["live"] > 0
        alone = await ask(client, "/rank", **body, ranker=False)
        assert by_index(alone) == by_index(before, "text_probability")


async def test_equal_stories_have_one_probability_and_keep_their_order(
    site: httpx.AsyncClient,
) -> None:
    one, two, three = titles(3)
    answer = await ask(site, "/rank", candidates=[one, two, one, three, one], history=[two])
    equal = [found for found in answer["results"] if found["index"] in (0, 2, 4)]
    assert len({found["probability"] for found in equal}) == 1
    assert [found["index"] for found in equal] == [0, 2, 4]


async def test_all_routes_agree(site: httpx.AsyncClient) -> None:
    history, candidates = titles(5, seed=1), titles(40)
    ranked = by_index(await ask(site, "/rank", candidates=candidates, history=history))
    pairs = [{"target": title, "history": history} for title in candidates]
    batch = await ask(site, "/predict/batch", pairs=pairs)
    assert batch["ranker"]
    assert [one["probability"] for one in batch["results"]] == pytest.approx(ranked, abs=1e-9)
    for place in (0, 39):
        alone = await ask(site, "/predict", target=candidates[place], history=history)
        assert alone["ranker"]
        assert alone["probability"] == pytest.approx(ranked[place], abs=1e-9)


async def test_stories_are_known_by_their_ids(site: httpx.AsyncClient) -> None:
    stories = [{"id": name, "title": title, "category": "sports"} for name, title in FOUR.items()]
    answer = await site.put("/stories", json={"stories": stories})
    assert answer.status_code == 200
    whole = await ask(site, "/rank", candidates=stories, history=[stories[1]])
    by_id = await ask(
        site, "/rank", candidates=[{"id": name} for name in FOUR], history=[{"id": "b"}]
    )
    assert by_index(by_id) == by_index(whole)


async def test_control_characters_make_no_other_story(site: httpx.AsyncClient) -> None:
    spoiled = [{"title": "one\ntwo", "category": "a\x00b"}, {"title": "one two", "category": "a b"}]
    first, second = by_index(await ask(site, "/rank", candidates=spoiled, history=spoiled))
    assert first == second


async def test_a_reader_is_known_by_what_they_clicked_and_passed_over(
    site: httpx.AsyncClient,
) -> None:
    await put(site, **FOUR)
    await send(
        site,
        impression("a", "c", id="i1", reader_id="u", time=NOW - 60),
        click("a", impression_id="i1", reader_id="u", time=NOW - 50),
    )
    body: Json = {"candidates": [{"id": "c"}, {"id": "d"}], "explain": True}
    known = await ask(site, "/rank", reader_id="u", **body)
    assert known["results"][0]["history_used"] == 1
    fresh = await ask(site, "/rank", history=[{"id": "a"}], **body)
    assert by_index(known, "text_probability") == by_index(fresh, "text_probability")
    passed, other = by_index(known)
    assert passed < by_index(fresh)[0]
    assert other == pytest.approx(by_index(fresh)[1])
    sent = await ask(site, "/rank", reader_id="u", disliked=[], **body)
    assert by_index(sent)[0] == pytest.approx(by_index(fresh)[0])


async def test_exploring_changes_orders_and_no_probability(
    sqlite: str, tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    async with service(
        sqlite, tmp_path, model=ranked, encoder=encoder, explore=True, shortlist=1000
    ) as client:
        body: Json = {"candidates": titles(8), "history": titles(3, seed=1)}
        answers = [await ask(client, "/rank", **body) for _ in range(30)]
        assert all(answer["explored"] for answer in answers)
        orders = {tuple(one["index"] for one in answer["results"]) for answer in answers}
        assert len(orders) > 10
        assert len({tuple(by_index(answer)) for answer in answers}) == 1
        assert not (await ask(client, "/rank", **body, ranker=False))["explored"]
