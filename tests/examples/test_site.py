"""The simulated site: its truth, and a short run on a service with a small real ranker."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.engine.fake import FakeEngine
from app.live import live
from app.main import create_app
from app.settings import Settings
from examples.replay import ReplayError
from examples.site import __main__ as site_command
from examples.site.__main__ import run_nightly
from examples.site.figures import ALL, summaries
from examples.site.week import Night, Row, as_drawn, simulate
from examples.site.world import (
    ALIVE_H,
    BASE,
    EXAMINED,
    HOUR_S,
    POISON,
    SHOWN,
    Size,
    Visit,
    World,
    expected_auc,
    show,
)
from tests.support.models import ROOT, SMOLLM2
from tests.support.rankers import make_tower, write_model, write_ranker
from tests.support.servers import serving
from tests.support.tiny_encoder import make_tiny_encoder
from training import metrics

SMALL = ("--days", "2", "--readers", "25", "--crowd", "500")
MODEST = Size(crowd=200)
LIVE = {"rate": 2.0, "recent_rate": 1.0}


def all_visits(world: World) -> Iterator[Visit]:
    for day in range(world.all_days):
        yield from world.visits(day)


def test_places_are_looked_at_as_often_as_is_known() -> None:
    """Clicks in a random order fall by place, by the known factor and no other."""
    world = World(1, Size(readers=0, crowd=1500))
    places = [show(world, one, as_drawn(one)).clicked for one in all_visits(world)]
    clicks = np.sum(places, axis=0)
    expected = clicks.sum() * EXAMINED / EXAMINED.sum()
    assert (abs(clicks - expected) < 4 * np.sqrt(expected)).all()
    flat = clicks.sum() / len(clicks)
    assert (abs(clicks - flat) > 4 * np.sqrt(flat)).any()


def test_a_list_earns_what_is_expected_of_it() -> None:
    world = World(2, Size(readers=0, crowd=1000))
    lists = [show(world, one, np.argsort(-world.probabilities(one))) for one in all_visits(world)]
    clicked, expected = (np.array([getattr(o, n) for o in lists]) for n in ("clicked", "expected"))
    assert clicked.mean() == pytest.approx(expected.mean(), rel=0.02)
    assert expected.mean() > 2 * BASE * EXAMINED.mean() * 0.5


def test_stories_live_for_a_day_and_fade() -> None:
    world = World(0, MODEST)
    by_age: dict[bool, list[float]] = {True: [], False: []}
    for visit in all_visits(world):
        ages = visit.time - np.array([world.stories[i].published for i in visit.candidates])
        assert (ages > 0).all()
        assert (ages <= ALIVE_H * HOUR_S).all()
        for age, probability in zip(ages, world.probabilities(visit), strict=True):
            by_age[bool(age > ALIVE_H * HOUR_S / 2)].append(probability)
    assert np.mean(by_age[True]) < 0.5 * np.mean(by_age[False])


def test_on_a_poisoned_day_half_of_the_readers_click_at_random() -> None:
    """The truth, and all other days, stay as they are."""
    size = Size(crowd=500, before=1, days=3)
    sound, poisoned = World(0, size), World(0, replace(size, poisoned=2))
    for visit in all_visits(sound):
        outcomes = [show(world, visit, as_drawn(visit)) for world in (sound, poisoned)]
        [good, bad] = [(one.expected, one.auc, one.clicked.tolist()) for one in outcomes]
        assert good[:2] == bad[:2]
        assert good == bad or (visit.day, visit.reader % 2) == (2, 0)
    mad = [one for one in poisoned.visits(2) if one.reader % 2 == 0]
    clicks = np.mean([show(poisoned, one, as_drawn(one)).clicked for one in mad], axis=0)
    assert clicks == pytest.approx(np.full(SHOWN, POISON), abs=0.1)


def test_tastes_drift_slowly() -> None:
    tastes = World(0, MODEST).tastes
    after = [np.corrcoef(tastes[0].ravel(), tastes[day].ravel())[0, 1] for day in (1, 7)]
    assert after == pytest.approx([0.97, 0.97**7], abs=0.03)
    assert np.exp(tastes).mean() == pytest.approx(1, abs=0.1)


def test_a_seed_makes_one_world() -> None:
    worlds = [World(seed, MODEST) for seed in (0, 0, 1)]
    told = [
        [(v.reader, v.time, v.candidates.tolist(), v.luck.tolist()) for v in all_visits(world)]
        for world in worlds
    ]
    assert worlds[0].stories == worlds[1].stories != worlds[2].stories
    assert told[0] == told[1] != told[2]
    titles = [story.title for story in worlds[0].stories]
    assert len(set(titles)) == len(titles)
    assert all(re.fullmatch(r"[A-Z]\w.{10,90}", title) for title in titles)


def test_the_auc_is_that_of_clicks_without_places() -> None:
    truth = np.random.default_rng(0).beta(1, 6, 30)
    clicked = np.random.default_rng(1).random((20_000, 30)) < truth
    order = -np.arange(30, dtype=np.float64)
    right = total = 0.0
    for one in clicked:
        if metrics.is_ranked(one):
            pairs = one.sum() * (~one).sum()
            right += metrics.rank_one(one, order)[0] * pairs
            total += pairs
    assert expected_auc(truth) == pytest.approx(right / total, abs=0.003)
    assert expected_auc(np.sort(truth)[::-1]) > 0.7 > 0.3 > expected_auc(np.sort(truth))


def test_several_seeds_are_as_many_observations() -> None:
    """Each seed's arms differ by 0.1 and 0.3; Student's factor for two is 12.7."""
    rows = [
        Row(seed, 1, arm, reader, 0.0, 0.0, 0.5 + (arm == "b") * gain + reader / 100)
        for seed, gain in ((0, 0.1), (1, 0.3))
        for arm in ("a", "b")
        for reader in range(3)
    ]
    [last] = [one for one in summaries(rows) if (one.day, one.arm) == (ALL, "b")]
    above = last.above["auc"]
    assert (above.value, above.high) == pytest.approx((0.2, 0.2 + 12.706 * 0.1), abs=1e-3)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "tiny-encoder"
    folder.mkdir()
    encoder = make_tiny_encoder(folder)
    model = write_model(tmp_path / "ranked", encoder, make_tower(encoder))
    write_ranker(model, encoder.name, only=LIVE)
    # The small ranker's first stage is meant to choose badly, so it chooses all.
    return Settings(model=model, encoder=encoder, state=tmp_path / "state", shortlist=100)


async def run(*options: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.site", *SMALL, *options),
        cwd=ROOT,
        env={"PATH": "/bin:/usr/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_live_figures_earn_clicks_where_the_language_model_knows_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.02)
    out, nights = tmp_path / "out", tmp_path / "nights"
    night = f'echo "$SITE_DAY $SITE_FROM $SITE_UNTIL $SITE_URL" >> {nights}'
    async with serving(create_app(settings, FakeEngine())) as url:
        asked = ("--url", url, "--out", str(out), "--arm", "again=ranked:text")
        code, table, error = await run(*asked, "--nightly", night)
        assert code == 0, error
    found = {(one["day"], one["arm"]): one for one in read(out / "week.json")}
    assert {day for day, _ in found} == {1, 2, ALL}
    of_all = {arm: found[ALL, arm] for arm in ("random", "text", "again", "ranker")}
    assert len({one["lists"] for one in of_all.values()}) == 1  # twins
    for arm in ("random", "text", "again"):
        assert of_all[arm]["figures"]["auc"]["value"] == pytest.approx(0.5, abs=0.03)
    above = of_all["ranker"]["above"]
    assert above["auc"]["low"] > 0.03
    assert above["expected"]["low"] > 0.1 * of_all["random"]["figures"]["expected"]["value"]
    assert len(re.findall(r"^\| (?:1|2|all) \| \w+ \| \d+ \|", table, re.M)) == 12
    assert (out / "week.png").read_bytes().startswith(b"\x89PNG")
    [line] = nights.read_text().splitlines()  # none after the last day
    assert re.fullmatch(rf"1 (\S+)T00:00:00 (?!\1)\S+T00:00:00 {url}", line)


def test_a_nightly_command_that_fails_ends_the_week() -> None:
    with pytest.raises(ReplayError, match="--nightly ended with 3 after day 2"):
        run_nightly("exit 3", None, Night("http://localhost", 2, 0.0, 1.0))


async def test_a_model_without_a_ranker_is_named(tmp_path: Path) -> None:
    async with serving(create_app(Settings(model=SMOLLM2, state=tmp_path), FakeEngine())) as url:
        with httpx.Client(base_url=url) as client:
            size = Size(readers=2, crowd=0)
            with pytest.raises(ReplayError, match=f"ranker: model {SMOLLM2.name} has no ranker"):
                await asyncio.to_thread(simulate, client, 0, size)


def read(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["days"]
    return found


def test_finished_seeds_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With other options they are not."""
    ran: list[int] = []

    def rows(client: Any, seed: int, *_: Any) -> list[Row]:
        ran.append(seed)
        if ran == [5, 6]:
            raise ReplayError("the service has died")
        return [Row(seed, 1, arm, reader, 0.1, 0.1, 0.5) for arm in ("a", "b") for reader in (1, 2)]

    @contextmanager
    def nothing(*_: Any) -> Iterator[tuple[str, str]]:
        yield "http://127.0.0.1:9", "sqlite://"

    monkeypatch.setattr(site_command, "simulate", rows)
    monkeypatch.setattr(site_command, "service", nothing)
    command = ["site", "--out", str(tmp_path), "--seed", "5", "--seeds", "2"]
    for more, code, expected in (([], 1, [5, 6]), ([], 0, [6]), (["--days", "3"], 0, [5, 6])):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        before = len(ran)
        assert site_command.main() == code
        assert ran[before:] == expected
    assert json.loads((tmp_path / "week.json").read_bytes())["seeds"] == 2
