"""refresh against a running service, with a tiny model that is really trained. Only the engine is
a fake, because what it answers is of no account here; tests/slow has the same on the real one."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from app.engine.fake import FakeEngine
from app.main import create_app
from app.ranker.ranker import load_ranker
from app.settings import Settings
from tests.support.refreshed_site import (
    NAME,
    adapters,
    click_for,
    now,
    tell,
    weights,
    write_plan,
)
from tests.support.servers import serving
from tests.support.tiny_training import make_tiny
from training.__main__ import main
from training.refreshing.options import iso, read_plan
from training.refreshing.record import Record, read_all

STEPS = [
    "collect",
    "prepare",
    "finetune",
    "adapter",
    "calibrate",
    "score",
    "rank",
    "evaluate",
    "gate",
    "load",
    "latency",
    "share",
]


class Site:
    """A service with a store that knows a day's traffic, and the commands to refresh it."""

    def __init__(self, client: httpx.AsyncClient, url: str, base: Path, folder: Path) -> None:
        self.client, self.url, self.base, self.folder = client, url, base, folder
        self.out = folder / "records"

    def plan(self, **changes: Any) -> None:
        write_plan(self.folder, self.url, self.base, **changes)

    async def refresh(self, *more: str) -> int:
        command = ["refresh", str(self.folder / "refresh.yaml"), "--out", str(self.out), *more]
        return await asyncio.to_thread(main, command)

    @property
    def record(self) -> Record:
        return list(read_all(self.out).values())[-1]


@asynccontextmanager
async def running(folder: Path, base: Path) -> AsyncIterator[Site]:
    """With an empty store."""
    (folder / "adapters").mkdir()
    settings = Settings(
        model=base,
        state=folder / "state",
        store=store_of(folder),
        adapter_root=folder / "adapters",
        max_adapters=3,
        remember=True,
    )
    async with (
        serving(create_app(settings, FakeEngine())) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        found = Site(client, url, base, folder)
        found.plan()
        yield found


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'site.sqlite'}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refresh-base") / NAME
    folder.mkdir()
    return make_tiny(folder)


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory, base: Path) -> tuple[Site, float]:
    """A site with a refresh that has passed the gate, and the moment that it took for now."""
    end = float(int(now()))
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("made")
        patch.setenv("FRONTPAGE_STORE", store_of(folder))
        async with running(folder, base) as site:
            await tell(site.client, end - 60)
            assert await site.refresh("--until", "gate", "--at", iso(end)) == 0
            assert await adapters(site.client) == []
            assert await weights(site.client) == {NAME: 1}
    return site, end


@pytest.fixture
async def site(
    tmp_path: Path, base: Path, made: tuple[Site, float], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    """A service of its own, on a copy of the store and of the refresh."""
    other, _ = made
    shutil.copy(other.folder / "site.sqlite", tmp_path)
    monkeypatch.setenv("FRONTPAGE_STORE", store_of(tmp_path))
    async with running(tmp_path, base) as found:
        shutil.copytree(other.out, found.out)
        yield found


def go_on(site: Site, **changes: Any) -> None:
    """Let the copied refresh use this service, as if it had begun with it and with `changes`."""
    site.plan(**changes)
    record = site.record
    record.plan = read_plan(site.folder / "refresh.yaml").model_dump(mode="json")
    record.write(site.out / record.name)


async def test_what_a_refresh_makes(made: tuple[Site, float]) -> None:
    site, end = made
    record = site.record
    assert (record.decision, record.served) == ("passed the gate", NAME)
    assert [step.name for step in record.steps] == STEPS[: STEPS.index("load")]
    assert [check.name for check in record.checks] == [
        *("impressions", "better", "calibrated", "label_mass", "traffic")
    ]
    folder = site.out / record.name / "adapter"
    ranker = load_ranker(folder)
    assert ranker is not None
    assert ranker.description.learned_until is not None
    until = ranker.description.learned_until.replace(tzinfo=UTC).timestamp()
    assert record.fit < until < record.test  # the newest lists are not learned from
    train = pl.read_parquet(site.out / record.name / "prepared" / "train.parquet")
    assert max(train["time"].dt.timestamp("ms")) / 1000 < record.fit
    assert record.end == pytest.approx(end - 36, abs=1)


async def test_a_kill_at_any_step_changes_nothing(
    site: Site, made: tuple[Site, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step and each part of the decision ends once without being written down."""
    _, end = made
    shutil.rmtree(site.out)
    killed: list[str] = []
    write = Record.write

    def kill_once(record: Record, folder: Path) -> None:
        latest = record.steps[-1].name if record.steps else "begin"
        latest = f"{record.decision} {record.decided is None}" if record.decision else latest
        if latest in killed or latest == "begin":
            return write(record, folder)
        killed.append(latest)
        raise SystemExit(137)

    monkeypatch.setattr(Record, "write", kill_once)
    site.plan(experiment={"share": 0.5, "undecided": "promote", "hours": 1e-6})
    for _ in range(40):
        with suppress(SystemExit):
            assert await site.refresh("--at", iso(end)) == 0
            break
    assert killed == [*STEPS, "promoted True", "promoted False"]
    mine, whole = site.record, made[0].record
    assert mine.decision == "promoted"
    assert mine.checks[: len(whole.checks)] == whole.checks
    adapter = site.out / mine.name / "adapter"
    for file in sorted(adapter.iterdir()):
        other = made[0].out / whole.name / "adapter" / file.name
        assert comparable(file) == comparable(other), file.name
    assert await weights(site.client) == {mine.name: 1}
    assert await adapters(site.client) == [mine.name]


def comparable(file: Path) -> object:
    """An adapter's file, without the data's hash, since a prepared set's manifest names the folders
    that it was made from. PEFT writes the names of matrices in any order."""
    if file.suffix != ".json":
        return file.read_bytes()
    content = json.loads(file.read_bytes()) | {"data_hash": ""}
    return content | {"target_modules": sorted(content.get("target_modules", []))}


async def test_readers_promote_what_they_click_more(site: Site) -> None:
    go_on(site, experiment={"share": 0.5})
    assert await site.refresh("--no-wait") == 0
    assert site.record.decision is None
    name = site.record.name
    assert await weights(site.client) == {NAME: 0.5, name: 0.5}
    await click_for(site.client, name, range(600))
    assert await site.refresh("--no-wait") == 0
    assert site.record.decision == "promoted", site.record.look
    assert "click-through higher than tiny's by" in site.record.why
    assert await weights(site.client) == {name: 1}
    left = {one.name for one in (site.out / name).iterdir()}
    assert left == {"refresh.json", "adapter", "evaluation", "text.parquet"}  # no reader's traffic


async def test_readers_take_back_what_they_click_less(site: Site) -> None:
    go_on(site, experiment={"share": 0.5, "poll_s": 0.1})
    assert await site.refresh("--no-wait") == 0
    await click_for(site.client, NAME, range(600))
    assert await site.refresh() == 0
    record = site.record
    assert record.decision == "taken back"
    assert "click-through lower" in record.why
    assert await weights(site.client) == {NAME: 1}
    assert await adapters(site.client) == []
    assert not (site.folder / "adapters" / record.name).exists()


async def test_what_nobody_can_tell_is_taken_back_in_time(site: Site) -> None:
    go_on(site, experiment={"share": 0.5, "hours": 1e-6})
    assert await site.refresh() == 0
    assert site.record.decision == "taken back"
    assert "neither better nor worse for sure" in site.record.why
    assert await weights(site.client) == {NAME: 1}


async def test_abandoning_undoes_what_was_changed(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on(site, experiment={"share": 0.5})
    assert await site.refresh("--no-wait") == 0
    assert await site.refresh("--abandon") == 0
    assert site.record.decision == "abandoned"
    assert await weights(site.client) == {NAME: 1}
    assert await adapters(site.client) == []
    assert await site.refresh("--abandon") == 1
    assert "no unfinished refresh" in capsys.readouterr().err


async def test_an_alias_that_somebody_else_has_changed_is_left_alone(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on(site, experiment={"share": 0.5})
    assert await site.refresh("--no-wait") == 0
    changed = {"weights": {NAME: 1}}
    assert (await site.client.put("/aliases/default", json=changed)).status_code == 200
    assert await site.refresh("--no-wait") == 1
    assert "which this refresh did not set" in capsys.readouterr().err
    assert await weights(site.client) == {NAME: 1}


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"impressions": 10_000}, "10,000 needed"),
        ({"margin": 0.99}, "needed: +0.99, with the interval above zero"),
        ({"ece": 1e-9}, "at most 1e-09"),
        ({"label_mass": 1.0}, "at least 100%"),
        ({"traffic": 1.0000001}, "at most 1 times apart"),
        ({"latency": 1e-9}, "times as long; at most 1e-09"),
    ],
)
async def test_the_gate_stops(site: Site, gate: dict[str, Any], message: str) -> None:
    go_on(site, gate=gate)
    record = site.record
    record.decision = record.decided = None
    record.checks, record.steps = [], record.steps[:-1]  # the gate's own step is done again
    record.write(site.out / record.name)
    assert await site.refresh() == 0
    assert site.record.decision == "stopped at the gate"
    assert message in site.record.why
    assert await weights(site.client) == {NAME: 1}
    assert await adapters(site.client) == []
    assert list((site.folder / "adapters").iterdir()) == []


async def test_nothing_newer_nothing_done(
    site: Site, made: tuple[Site, float], capsys: pytest.CaptureFixture[str]
) -> None:
    go_on(site)
    assert await site.refresh() == 0
    assert site.record.decision == "promoted"
    assert await site.refresh("--at", iso(made[1] + 3600)) == 0
    assert "nothing to do" in capsys.readouterr().out
    site.plan(every_hours=0)
    assert await site.refresh("--at", iso(made[1])) == 1
    assert "nothing is newer than its traffic" in capsys.readouterr().err
    assert len(read_all(site.out)) == 1
