"""The desired state while the store is away, with clocks that differ, and as earlier versions of
the service kept it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.errors import StartupError, StoreUnavailable
from app.store import desired
from app.store.database import Database
from app.store.desired import DesiredState
from tests.support.adapter_calls import BASE, error, load, predict
from tests.support.instances import Instance, Instances, desired_in
from tests.support.postgres import Postgres, migrated, postgres_server
from tests.support.waiting import until


@pytest.fixture
async def instances(tmp_path: Path, store_url: str) -> AsyncIterator[Instances]:
    async with AsyncExitStack() as stack:
        yield Instances(tmp_path, store_url, stack)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that the test may stop."""
    with postgres_server() as server:
        yield server


@pytest.fixture
async def on_postgres(own_postgres: Postgres, tmp_path: Path) -> AsyncIterator[Instances]:
    async with AsyncExitStack() as stack:
        yield Instances(tmp_path, migrated(own_postgres), stack)


async def nothing_changes(at: Instance, before: dict[str, Any]) -> None:
    """Every change is refused in the same way, and nothing is left of it."""
    for answer in (
        await load(at.client, "news", "v2"),
        await load(at.client, "other", "v3"),
        await at.client.put("/aliases/default", json={"weights": {"news": 1}}),
        await at.client.delete("/adapters/old"),
        await at.client.delete("/aliases/front"),
    ):
        assert error(answer)[:2] == (503, "store_unavailable"), answer.text
        assert "Retry-After" in answer.headers
    assert (await at.client.get("/aliases")).json() == before
    assert at.engine.adapters == {"news@1", "old@1"}
    kept = (at.service.settings.state / "adapters").iterdir()
    assert {folder.name for folder in kept} == {"news@1", "old@1"}


async def prepared(instances: Instances) -> tuple[Instance, dict[str, Any]]:
    """An instance with two adapters and an alias, and its list of aliases."""
    a = await instances.start("a")
    await load(a.client, "news", "v1")
    await load(a.client, "old", "v2")
    await a.client.put("/aliases/front", json={"weights": {BASE: 1}})
    return a, (await a.client.get("/aliases")).json()


async def test_a_store_that_is_away_changes_nothing(
    on_postgres: Instances, own_postgres: Postgres
) -> None:
    a, before = await prepared(on_postgres)
    b = await on_postgres.start("b")
    own_postgres.stop()
    await nothing_changes(a, before)
    for one in (a, b):
        assert (await predict(one.client, model="front"))["model"] == BASE
        assert (await one.client.get("/ready")).status_code == 200
    listed = await a.listed("news")
    assert [one["instance"] for one in listed["instances"]] == ["a"], "what it knows itself"
    own_postgres.start()
    assert (await load(a.client, "news", "v2")).status_code == 201
    await until(lambda: b.versions["news"] == a.versions["news"] > 1)


async def test_a_store_that_hangs_changes_nothing_then_or_later(
    on_postgres: Instances, own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired, "CHANGE_S", 0.3)
    a, before = await prepared(on_postgres)
    number = a.service.desired.number
    own_postgres.pause()
    try:
        await nothing_changes(a, before)
    finally:
        own_postgres.resume()
    monkeypatch.setattr(desired, "CHANGE_S", 60)
    assert (await a.client.put("/aliases/last", json={"weights": {BASE: 1}})).status_code == 200
    assert a.service.desired.number == number + 1, "what was refused has not happened since"


async def test_a_commit_that_fails_leaves_the_old_version(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the new one was copied, loaded and proven."""
    a, _ = await prepared(instances)
    change, calls = DesiredState.change, 0

    async def fails_the_second_time(self: DesiredState, edit: Any) -> desired.Revision:
        nonlocal calls
        calls += 1
        if calls == 2:
            assert a.engine.adapters == {"news@1", "news@2", "old@1"}
            raise StoreUnavailable("away")
        return await change(self, edit)

    monkeypatch.setattr(DesiredState, "change", fails_the_second_time)
    assert error(await load(a.client, "news", "v2"))[:2] == (503, "store_unavailable")
    assert a.engine.adapters == {"news@1", "old@1"}
    assert not (a.service.settings.state / "adapters" / "news@2").exists()
    assert desired_in(instances.store_url).adapters["news"].version == 1
    assert (await load(a.client, "news", "v2")).json()["version"] == 3


async def test_clocks_minutes_apart(
    on_postgres: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the machines, in both directions: an instance is seen by the store's clock."""
    a, b = await on_postgres.start("a"), await on_postgres.start("b")
    await load(a.client, "news", "v1")
    now = time.time
    for minutes in (5, -5):
        monkeypatch.setattr(time, "time", lambda minutes=minutes: now() + minutes * 60)
        await b.service.following._report()
        monkeypatch.setattr(time, "time", now)
        reports = await a.service.store.desired.reports()
        assert {report.name for report in reports} == {"a", "b"}
        assert all(-1 < report.age_s < 20 for report in reports)


def write_registry(state: Path, root: Path, **changes: Any) -> dict[str, Any]:
    """What version 0.4 of the service wrote, with an adapter's copy."""
    content = {
        "versions": {"news": 3, "gone": 2},
        "adapters": {"news": {"version": 3, "source": str(root / "v1")}},
        "aliases": {"default": {"news": 90.0, BASE: 10.0}},
    } | changes
    copy = state / "adapters" / "news@3"
    copy.mkdir(parents=True)
    for file in (root / "v1").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (state / "registry.json").write_text(json.dumps(content, indent=1) + "\n")
    return content


async def test_the_registry_of_an_earlier_version_is_taken_over_once(instances: Instances) -> None:
    former = write_registry(instances.folder / "a", instances.root)
    async with instances.running("a") as a:
        assert a.versions == {"news": 3}
        assert a.aliases == former["aliases"]
        assert (await load(a.client, "gone", "v2")).json()["version"] == 3
        await a.client.put("/aliases/default", json={"weights": {"gone": 1}})
    kept = instances.folder / "a" / "registry.json.adopted"
    assert json.loads(kept.read_text()) == former
    assert not kept.with_name("registry.json").exists()
    async with instances.running("a") as a, instances.running("b") as b:
        assert a.versions == b.versions == {"news": 3, "gone": 3}
        assert a.aliases == b.aliases == {"default": {"gone": 1.0}}


async def test_a_copy_whose_source_is_gone_is_still_served(instances: Instances) -> None:
    write_registry(instances.folder / "a", instances.root)
    (instances.root / "v1").rename(instances.root / "elsewhere")
    a = await instances.start("a")
    assert a.versions == {"news": 3}


async def test_registries_of_several_instances(instances: Instances) -> None:
    """The first one's is the desired one where they differ; versions never go back."""
    write_registry(instances.folder / "a", instances.root)
    other = {"news": {"version": 7, "source": str(instances.root / "v2")}}
    more = {"extra": {"version": 1, "source": str(instances.root / "v3")}}
    write_registry(
        instances.folder / "b",
        instances.root,
        versions={"news": 7, "extra": 1},
        adapters=other | more,
        aliases={"default": {BASE: 1.0}, "mine": {BASE: 1.0}},
    )
    a, b = await instances.start("a"), await instances.start("b")
    await until(lambda: a.versions == b.versions == {"news": 3, "extra": 1})
    assert a.aliases == b.aliases
    assert a.aliases == {"default": {"news": 90.0, BASE: 10.0}, "mine": {BASE: 1.0}}
    assert (await load(a.client, "news", "v2")).json()["version"] == 8


async def test_a_registry_taken_over_while_the_store_is_away_stays(
    tmp_path: Path, own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        instances = Instances(tmp_path, migrated(own_postgres), stack)
        write_registry(tmp_path / "a", instances.root)

        async def away(self: DesiredState, edit: Any) -> desired.Revision:
            raise StoreUnavailable("away")

        monkeypatch.setattr(DesiredState, "change", away)
        with pytest.raises(StartupError, match="the adapters and aliases to serve: away"):
            await instances.start("a")
    assert (tmp_path / "a" / "registry.json").exists()


async def test_a_compare_and_swap_that_loses_is_tried_again(store_url: str) -> None:
    """Edits that another instance's change comes between: each sees the newest, none is lost."""
    states = [DesiredState(Database(store_url)) for _ in range(4)]
    for state in states:
        state._database.open()
        state.start()

    def edit(old: str | None) -> str:
        return str(int(old or 0) + 1)

    try:
        found = await asyncio.gather(*(states[n % 4].change(edit) for n in range(40)))
        assert sorted(one.number for one in found) == list(range(1, 41))
        assert all(one.content == str(one.number) for one in found)
    finally:
        for state in states:
            state.stop()
            state._database.close()
