"""What `explain` adds to answers about live figures, on the fake engine, without a ranker."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.support.site_calls import service
from tests.support.waiting import HANG_S, until


async def shown(client: httpx.AsyncClient, candidates: list[Any]) -> dict[str, Any]:
    """Each story's live figure in an answer of /rank, by its id there."""
    body = {"candidates": candidates, "explain": True}
    answer = (await client.post("/rank", json=body)).raise_for_status().json()
    return {one["id"]: one["live"] for one in answer["results"]}


async def test_clicks_on_a_story_without_an_id_can_be_sent_and_are_shown(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    candidates = ["Cup final", {"id": "N2", "title": "Rain"}]
    before = await shown(client, candidates)
    own = next(name for name in before if name != "N2")
    assert own.startswith("title:")
    assert set(before.values()) == {None}
    click = {"type": "click", "story": own}
    (await client.post("/events", json={"events": [click, click]})).raise_for_status()
    await until(lambda: len(app.state.service.live) > 0)  # both at once, as they were sent together
    found = await shown(client, candidates)
    assert found["N2"] is None
    assert (found[own]["impressions"], found[own]["clicks"]) == (2, 2)
    target = {"target": "Cup final", "explain": True}
    alone = (await client.post("/predict", json=target)).raise_for_status().json()
    assert alone["live"]["clicks"] == 2
    pairs = {"pairs": [{"target": "Rain"}, {"target": "Cup final"}], "explain": True}
    batch = (await client.post("/predict/batch", json=pairs)).raise_for_status().json()
    assert [one["live"] and one["live"]["clicks"] for one in batch["results"]] == [None, 2]
    del target["explain"]
    plain = (await client.post("/predict", json=target)).raise_for_status().json()
    assert (plain["live"], plain["explanation"]) == (None, None)


@pytest.mark.parametrize("remember", [True, False])
async def test_a_click_that_is_sent_as_feedback_and_as_an_event_counts_once(
    store_url: str, tmp_path: Path, remember: bool
) -> None:
    """The page sends both, as it does not know whether feedback moves the figures."""
    candidates = ["Cup final", {"id": "N2", "title": "Rain"}]
    async with service(store_url, tmp_path, remember=remember) as client:
        answer = (await client.post("/rank", json={"candidates": candidates})).json()
        [own] = [one["id"] for one in answer["results"] if one["index"] == 0]
        told = {"id": answer["id"], "index": 0, "clicked": True}
        (await client.post("/feedback", json=told)).raise_for_status()
        click = {"type": "click", "id": "c1", "story": own, "impression_id": answer["id"]}
        later = {"type": "click", "story": "later"}
        for event in (click, click, later):
            (await client.post("/events", json={"events": [event]})).raise_for_status()
        both = [*candidates, {"id": "later", "title": "later"}]
        async with asyncio.timeout(HANG_S):
            while (found := await shown(client, both))["later"] is None:
                await asyncio.sleep(0.01)
        assert (found[own]["impressions"], found[own]["clicks"]) == (1, 1)
        assert found["N2"]["impressions"] == 1  # shown beside it, as only the answer knows
        experiments = (await client.get("/experiments")).json()["models"]
        assert [(one["clicks"], one["impressions"]) for one in experiments] == [(1, 2)]
