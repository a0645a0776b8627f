"""A model with its ranker and without (`:text`): by name, as arms of an alias, and while adapters
that have a ranker come and go."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.engine.base import OpenAIAnswer, OpenAIAPI
from app.engine.fake import FakeEngine
from app.main import create_app
from app.models.declared import Declaration, declare
from app.service import Service
from app.settings import Settings
from tests.support.adapter_calls import error, load
from tests.support.adapter_folders import write_adapter
from tests.support.models import SMOLLM2
from tests.support.rankers import write_ranker
from tests.support.servers import client_of
from tests.support.site_calls import ask
from training.ranking.tower_model import Tower

ARMS = {"news": 50, "news:text": 50}


class Chats:
    """Answers with the body that it got."""

    async def chat(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer:
        return body

    complete = chat


class ChattingEngine(FakeEngine):
    @property
    def openai(self) -> OpenAIAPI:  # type: ignore[override]
        return Chats()


@pytest.fixture
def engine() -> FakeEngine:
    return ChattingEngine()


@pytest.fixture
def root(tmp_path: Path, encoder: Path, tower: Tower) -> Path:
    """Adapters to load: two with a ranker, one of them with a tower, and one without."""
    write_ranker(write_adapter(tmp_path / "root" / "trees", alpha=2), encoder.name, tower=False)
    whole = write_ranker(write_adapter(tmp_path / "root" / "whole", alpha=3), encoder.name)
    tower.to_file(encoder.name).write(whole)
    write_adapter(tmp_path / "root" / "plain", alpha=4)
    return tmp_path / "root"


@pytest.fixture
def settings(tmp_path: Path, root: Path, encoder: Path) -> Settings:
    return Settings(
        model=SMOLLM2,
        state=tmp_path / "state",
        adapter_root=root,
        encoder=encoder,
        max_adapters=2,
        remember=True,
    )


@pytest.fixture
async def site(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        assert (await load(client, "news", "whole")).status_code == 201
        yield client


async def split(
    client: httpx.AsyncClient, alias: str, weights: Mapping[str, float]
) -> httpx.Response:
    return await client.put(f"/aliases/{alias}", json={"weights": weights})


async def test_an_alias_splits_readers_between_a_model_with_and_without_its_ranker(
    site: httpx.AsyncClient,
) -> None:
    assert (await split(site, "default", ARMS)).status_code == 200
    first, second = [
        [await ask(site, "/rank", candidates=["one", "two"], reader_id=f"u{n}") for n in range(60)]
        for _ in range(2)
    ]
    models = [answer["model"] for answer in first]
    assert models == [answer["model"] for answer in second]
    assert {*models} == {"news", "news:text"}
    assert min(Counter(models).values()) > 15  # of 60: far below what chance allows
    for answer in first:
        assert answer["ranker"] == (answer["model"] == "news")
        await ask(site, "/feedback", id=answer["id"], index=0, clicked=True)
    found = (await site.get("/experiments")).json()["models"]
    assert {one["model"] for one in found} >= {"news", "news:text"}


async def test_a_models_name_may_ask_for_the_language_model_alone(
    site: httpx.AsyncClient,
) -> None:
    body: dict[str, Any] = {"candidates": ["one", "two three"], "history": ["four"]}
    alone = await ask(site, "/rank", model="news:text", **body)
    assert (alone["model"], alone["ranker"]) == ("news:text", False)
    asked = await ask(site, "/rank", model="news", ranker=False, **body)
    assert (asked["model"], asked["results"]) == ("news:text", alone["results"])
    one = await ask(site, "/predict", model="news:text", target="one", history=["four"])
    assert (one["model"], one["ranker"]) == ("news:text", False)
    assert one["probability"] == one["text_probability"]
    base = f"{SMOLLM2.name}:text"  # the same as without, since it has no ranker
    assert (await ask(site, "/predict", model=base, target="one"))["model"] == SMOLLM2.name


async def test_chat_is_answered_by_the_model_itself(site: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    by_name, by_arm = [
        await ask(site, "/v1/chat/completions", model=model, **body)
        for model in ("news", "news:text")
    ]
    assert by_name["model"] == by_arm["model"] == "news@1"


@pytest.mark.parametrize("path", ["/predict", "/rank", "/predict/batch", "/v1/chat/completions"])
async def test_an_unknown_models_arm_is_an_error_that_names_the_models(
    site: httpx.AsyncClient, path: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/predict": {"target": "one"},
        "/rank": {"candidates": ["one"]},
        "/predict/batch": {"pairs": [{"target": "one"}]},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    }
    response = await site.post(path, json={"model": "other:text", **bodies[path]})
    assert error(response) == (404, "model_not_found", "model")
    message = response.json()["error"]["message"]
    assert all(name in message for name in ("other:text", "news", SMOLLM2.name))


async def test_an_alias_of_an_unknown_models_arm_is_refused(site: httpx.AsyncClient) -> None:
    response = await split(site, "mix", {"news": 1, "other:text": 1})
    assert error(response) == (404, "model_not_found", "weights.other:text")
    assert (await split(site, "mix:text", {"news": 1})).status_code == 422
    assert (await site.get("/aliases")).json()["aliases"] == []


async def test_an_adapter_in_use_as_an_arm_stays(
    site: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await split(site, "mix", {SMOLLM2.name: 1, "news:text": 1})
    refused = await site.delete("/adapters/news")
    assert refused.status_code == 409
    assert "mix" in refused.json()["error"]["message"]
    assert engine.adapters == {"news@1"}
    await site.delete("/aliases/mix")
    assert (await site.delete("/adapters/news")).status_code == 200
    assert engine.adapters == set()


async def test_declared_aliases_may_name_arms(site: httpx.AsyncClient, app: FastAPI) -> None:
    service: Service = app.state.service
    declaration = Declaration.read(
        {
            "aliases": {
                "mix": {"weights": {"news:text": 1}},
                "none": {"weights": {"other:text": 1}},
            }
        }
    )
    problems = await declare(declaration, service.desired, service.local)
    [problem] = problems
    assert problem.startswith("alias none: no model 'other:text'")
    answer = await ask(site, "/rank", model="mix", candidates=["one"])
    assert (answer["model"], answer["ranker"]) == ("news:text", False)


async def test_a_models_name_can_not_look_like_an_arm(settings: Settings) -> None:
    named = settings.model_copy(update={"model_name": "news:text"})
    with pytest.raises(Exception, match="can't end with :text"):
        create_app(named, FakeEngine())


async def test_rankers_come_and_go_while_requests_run(site: httpx.AsyncClient, root: Path) -> None:
    """Each answer is of one version, as a whole."""
    stopping = False
    seen = Counter[bool]()

    async def go_on() -> None:
        while not stopping:
            answer = await ask(
                site, "/rank", model="news", candidates=["one", "two three"], explain=True
            )
            seen[answer["ranker"]] += 1
            for one in answer["results"]:
                same = one["probability"] == one["text_probability"]
                assert same != answer["ranker"]
                assert (one["explanation"] is not None) == answer["ranker"]
            await asyncio.sleep(0)

    readers = [asyncio.create_task(go_on()) for _ in range(4)]
    for path in ("plain", "trees", "plain", "whole", "trees"):
        assert (await load(site, "news", path)).status_code == 201
        answer = await ask(site, "/rank", model="news", candidates=["one"])
        assert answer["ranker"] == (path != "plain")
    stopping = True
    await asyncio.gather(*readers)
    assert seen[True]
    assert seen[False]


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("ranker.txt", "ranker.txt"),
        ("tower.npz", "needs a tower"),
    ],
)
async def test_an_adapter_whose_ranker_is_not_whole_changes_nothing(
    site: httpx.AsyncClient, root: Path, engine: FakeEngine, file: str, complaint: str
) -> None:
    before = await ask(site, "/rank", model="news", candidates=["one", "two"])
    shutil.copytree(root / "whole", root / "broken")
    (root / "broken" / file).unlink()
    response = await load(site, "news", "broken")
    assert error(response) == (422, "adapter_rejected", "path")
    assert complaint in response.json()["error"]["message"]
    after = await ask(site, "/rank", model="news", candidates=["one", "two"])
    assert after["results"] == before["results"]
    assert engine.adapters == {"news@1"}
