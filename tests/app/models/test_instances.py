"""Several instances that share a store: what one changes all of them serve. On both databases; with
the fake engine, the real one is in tests/slow/test_instances.py."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.engine.fake import FakeEngine
from app.errors import AdapterRejected
from app.models import following, local
from app.models.adapter_folder import fingerprint
from app.models.adapter_source import AdapterRoot
from app.store.desired import DesiredState, Revision
from tests.support.adapter_calls import BASE, error, load, predict
from tests.support.adapter_folders import write_adapter
from tests.support.instances import Instance, Instances, desired_in
from tests.support.waiting import HANG_S, until


@pytest.fixture
async def instances(tmp_path: Path, store_url: str) -> AsyncIterator[Instances]:
    async with AsyncExitStack() as stack:
        yield Instances(tmp_path, store_url, stack)


async def until_true(ask: Callable[[], Any]) -> Any:
    """Wait until an awaited answer is true; returns it."""
    async with asyncio.timeout(HANG_S):
        while not (found := await ask()):
            await asyncio.sleep(0.01)
    return found


async def three(instances: Instances) -> list[Instance]:
    return [await instances.start(name) for name in ("a", "b", "c")]


async def test_what_one_loads_all_serve(instances: Instances) -> None:
    a, b, c = await three(instances)
    assert (await load(a.client, "news", "v1")).status_code == 201
    assert a.versions == {"news": 1}, "at once where it was asked for"
    await until(lambda: b.versions == c.versions == {"news": 1})
    answers = [await predict(one.client, model="news") for one in (a, b, c)]
    assert len({answer["probability"] for answer in answers}) == 1
    assert (await load(b.client, "news", "v2")).json()["version"] == 2
    await until(lambda: a.versions == c.versions == {"news": 2})
    await until(lambda: a.engine.adapters == b.engine.adapters == {"news@2"})
    copies = [instances.folder / name / "adapters" / "news@2" for name in "abc"]
    assert len({fingerprint(folder) for folder in copies}) == 1
    assert (await c.client.delete("/adapters/news")).status_code == 200
    await until(lambda: not a.versions and not b.versions and not c.versions)
    await until(lambda: not a.engine.adapters and not any(folder.exists() for folder in copies))


async def test_each_instance_says_what_it_serves(instances: Instances) -> None:
    a, b = await instances.start("a"), await instances.start("b")
    await load(a.client, "news", "v1")
    found = await until_true(lambda: served_by(b, "news", "a", "b"))
    assert found["status"] == "serving"
    assert found["instances"][1] == {
        "instance": "a",
        "version": 1,
        "status": "serving",
        "error": None,
    }


async def served_by(at: Instance, name: str, *instances: str) -> dict[str, Any] | None:
    """What is listed once all the instances serve the adapter."""
    listed = (await at.client.get("/adapters")).json()["adapters"]
    for one in listed:
        serving = {two["instance"] for two in one["instances"] if two["status"] == "serving"}
        if one["name"] == name and serving == set(instances):
            return dict(one)
    return None


async def test_a_hundred_moves_of_an_alias_are_one_order_that_all_see(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[int, float]] = []
    change = DesiredState.change

    async def noted(self: DesiredState, edit: Callable[[str | None], str]) -> Revision:
        found = await change(self, edit)
        content = json.loads(found.content or "{}")
        order.append((found.number, content["aliases"]["front"][BASE]))
        return found

    three_of_them = await three(instances)
    seen: list[list[tuple[int, float]]] = [[], [], []]
    for one, history in zip(three_of_them, seen, strict=True):
        desired = one.service.desired
        desired.watch(
            lambda desired=desired, history=history: history.append(  # type: ignore[misc]
                (desired.number, desired.content.aliases["front"][BASE])
            )
        )
    monkeypatch.setattr(DesiredState, "change", noted)

    async def move(number: int) -> None:
        client = three_of_them[number % 3].client
        answer = await client.put("/aliases/front", json={"weights": {BASE: number + 1}})
        assert (answer.status_code, answer.json()["weights"]) == (200, {BASE: number + 1})

    await asyncio.gather(*(move(number) for number in range(100)))
    assert sorted(number for number, _ in order) == list(range(1, 101)), "each is a revision"
    assert sorted(weight for _, weight in order) == list(range(1, 101)), "none was lost"
    last = dict(order)[100]
    await until(lambda: all(one.aliases == {"front": {BASE: last}} for one in three_of_them))
    for history in seen:
        assert history == sorted(set(history)), "none went back"
        assert set(history) <= set(order)


async def test_loads_of_one_name_at_once_end_with_one_version_everywhere(
    instances: Instances,
) -> None:
    all_three = await three(instances)
    answers = await asyncio.gather(
        *(load(one.client, "news", f"v{n}") for n, one in enumerate(all_three, 1))
    )
    loaded = [answer.json() for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    newest = max(one["version"] for one in loaded)
    await until(lambda: all(one.versions == {"news": newest} for one in all_three))
    assert desired_in(instances.store_url).adapters["news"].version == newest


async def test_one_that_fails_keeps_the_old_and_says_so(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "RETRY_S", 0.05)
    a, b = await instances.start("a"), await instances.start("b")
    await load(a.client, "news", "v1")
    await until(lambda: b.versions == {"news": 1})
    await a.client.put("/aliases/default", json={"weights": {BASE: 1}})
    await until(lambda: b.aliases == {"default": {BASE: 1.0}})
    copy, is_full = AdapterRoot.copy, True

    def full_at_b(self: AdapterRoot, source: str, folder: Path) -> None:
        if is_full and folder.is_relative_to(instances.folder / "b"):
            raise AdapterRejected("can't copy: No space left on device", "path")
        copy(self, source, folder)

    monkeypatch.setattr(AdapterRoot, "copy", full_at_b)
    assert (await load(a.client, "news", "v2")).status_code == 201
    assert (await load(a.client, "other", "v3")).status_code == 201
    await a.client.put("/aliases/default", json={"weights": {"other": 1}})

    async def failed_at_b() -> dict[str, Any] | None:
        found = await a.listed_at("news", "b")
        return found if found and found["status"] == "failed" else None

    found = await until_true(failed_at_b)
    assert found["version"] == 1
    assert "version 2: can't copy: No space left" in found["error"]
    other = await until_true(lambda: a.listed_at("other", "b"))
    assert other["status"] == "failed"
    own = await b.listed("news")
    assert (own["version"], own["status"]) == (1, "failed")
    assert (await predict(b.client, model="news"))["model"] == "news"
    assert (await predict(a.client))["model"] == "other"
    assert (await predict(b.client))["model"] == BASE, "the alias waits for its model"
    is_full = False
    await until(lambda: b.versions == {"news": 2, "other": 1})
    assert (await predict(b.client))["model"] == "other"


async def test_an_alias_named_right_after_a_load_elsewhere(instances: Instances) -> None:
    """It is not known there yet, and must be effective when the call answers."""
    a, b = await instances.start("a"), await instances.start("b")
    assert (await load(a.client, "news", "v1")).status_code == 201
    answer = await b.client.put("/aliases/default", json={"weights": {"news": 1}})
    assert answer.status_code == 200, answer.text
    assert (await predict(b.client))["model"] == "news"
    assert error(await a.client.delete("/adapters/news"))[:2] == (409, "conflict")
    await until(lambda: a.aliases == {"default": {"news": 1.0}})


async def test_a_change_of_models_where_there_is_room_for_one(instances: Instances) -> None:
    """b sees the steps in between, or only their end: that depends on when it looks."""
    a = await instances.start("a", max_adapters=1)
    b = await instances.start("b", max_adapters=1)
    await load(a.client, "old", "v1")
    await a.client.put("/aliases/default", json={"weights": {"old": 1}})
    await until(lambda: b.aliases == {"default": {"old": 1.0}})
    async with b.service.local.loader.changing:  # so that it sees the end alone
        await a.client.put("/aliases/default", json={"weights": {BASE: 1}})
        assert (await a.client.delete("/adapters/old")).status_code == 200
        assert (await load(a.client, "new", "v2")).status_code == 201
        await a.client.put("/aliases/default", json={"weights": {"new": 1}})
        await until(lambda: b.service.desired.number == a.service.desired.number)
    await until(lambda: b.versions == {"new": 1} and b.aliases == {"default": {"new": 1.0}})
    await until(lambda: b.engine.adapters == {"new@1"})


async def test_one_that_starts_later_or_again_serves_the_same(instances: Instances) -> None:
    a = await instances.start("a")
    async with instances.running("b") as b:
        await load(a.client, "news", "v1")
        await load(a.client, "old", "v3")
        await until(lambda: b.versions == {"news": 1, "old": 1})
    assert await a.listed_at("news", "b") is None, "it has left"
    await load(a.client, "news", "v2")
    await a.client.delete("/adapters/old")
    await a.client.put("/aliases/default", json={"weights": {"news": 1}})
    for name in ("b", "new"):
        async with instances.running(name) as started:
            assert started.versions == {"news": 2}
            assert started.engine.adapters == {"news@2"}
            assert (await predict(started.client))["model"] == "news"
            copies = (instances.folder / name / "adapters").iterdir()
            assert [folder.name for folder in copies] == ["news@2"]


async def test_bytes_that_changed_at_the_source_are_not_served_as_the_same_version(
    instances: Instances,
) -> None:
    a = await instances.start("a")
    await load(a.client, "news", "v1")
    shutil.rmtree(instances.root / "v1")
    write_adapter(instances.root / "v1", alpha=99)
    b = await instances.start("b")
    found = await b.listed("news")
    assert (found["version"], found["status"]) == (1, "failed")
    assert "have changed since version 1 was loaded" in found["error"]
    assert b.versions == {}
    assert (await load(b.client, "news", "v1")).json()["version"] == 2
    await until(lambda: a.versions == b.versions == {"news": 2})


async def test_an_instance_unseen_for_long_is_left_out(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await instances.start("a"), await instances.start("b")
    await load(a.client, "news", "v1")
    await until_true(lambda: served_by(a, "news", "a", "b"))
    monkeypatch.setattr("app.store.desired.SEEN_S", 0.5)
    for task in b.service.following._tasks:
        task.cancel()

    async def is_left_out() -> bool:
        return await a.listed_at("news", "b") is None

    await until_true(is_left_out)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
async def test_the_fingerprint_is_of_every_file_that_counts(tmp_path: Path, file: str) -> None:
    folder = write_adapter(tmp_path / "one", history=5)
    before = fingerprint(folder)
    (folder / "trainer_log.jsonl").write_text("{}")
    assert fingerprint(folder) == before
    (folder / "profile.json").write_text('{"history": 6}')
    changed = fingerprint(folder)
    (folder / file).write_bytes((folder / file).read_bytes() + b" ")
    assert len({before, changed, fingerprint(folder)}) == 3


class Dying(FakeEngine):
    """Takes no adapter of one name."""

    async def load_adapter(self, name: str, path: Path) -> None:
        if name.startswith("bad@"):
            raise AdapterRejected("the engine did not take it")
        await super().load_adapter(name, path)


async def test_what_one_engine_refuses_keeps_nothing_else_up(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.05)
    a, b = await instances.start("a"), await instances.start("b", engine=Dying())
    await load(a.client, "bad", "v1")
    await load(a.client, "good", "v2")
    await until(lambda: b.versions == {"good": 1})
    assert (await b.listed("bad"))["error"] == "the engine did not take it"
    assert error(await b.client.put("/aliases/x", json={"weights": {"bad": 1}}))[0] == 404
