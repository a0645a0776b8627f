"""The ranker sees the same in training and while serving: one log goes through training's replay,
and through the service's store, live figures and gathering."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from app.knowledge.encoders import Encoders
from app.knowledge.gathering import Knowledge
from app.knowledge.judging import judge
from app.knowledge.ranking import Ranking, load_ranking
from app.likeness.encoder import SentenceEncoder
from app.live.live import Live
from app.ranker.features import NAMES, Floats
from app.scoring.wording import Reader, Story
from app.signals.batch import MAX_POSITION
from app.signals.counters import HalfLives
from app.signals.live import LiveFigures
from app.store.events import add_events
from app.store.records import ClickEvent, ImpressionEvent, StoredStory
from app.store.store import Store
from tests.support.rankers import titles
from tests.support.stores import running
from training.data.samples import add_earlier
from training.ranking.log import Log
from training.ranking.moments import Catalogue, Replay
from training.ranking.tower_model import Tower
from training.ranking.tower_training import story_vectors

READERS, STORIES, ROUNDS, SHOWN = 8, 14, 5, 5
TITLES = titles(STORIES)
CATEGORIES = ["sports", "news", "autos", None]
BEGIN = datetime.fromtimestamp(int(datetime.now(UTC).timestamp()) - 9 * 3600, UTC).replace(
    tzinfo=None
)
APPROXIMATE = {f"cosine_{kind}" for kind in ("mean", "max", "best", "latest")}
"""Vectors are kept in half precision, and which titles are embedded together changes their last
digit."""


@dataclass(frozen=True)
class Row:
    """An impression, as add_earlier reads it. shown: twice the story's index, and 1 if clicked."""

    impression: str
    user: str
    time: datetime
    shown: list[int]
    labelled: bool = True

    @property
    def stories(self) -> list[int]:
        return [code // 2 for code in self.shown]

    @property
    def clicked(self) -> list[bool]:
        return [code % 2 == 1 for code in self.shown]

    @property
    def seconds(self) -> float:
        return self.time.replace(tzinfo=UTC).timestamp()


def make_rows(seed: int) -> list[Row]:
    """In the order of time. Two readers each see their stories at the same moment. A reader may see
    a story again, after minutes or hours."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(READERS * ROUNDS):
        turn, reader = divmod(number, READERS)
        time = BEGIN + timedelta(minutes=90 * turn + 10 * (reader // 2), seconds=7)
        shown = random.permutation(STORIES)[:SHOWN]
        codes = (2 * shown + (random.random(SHOWN) < 0.3)).tolist()
        found.append(Row(f"i{number}", f"u{reader}", time, codes))
    return found


def histories(rows: list[Row]) -> list[list[int]]:
    """What each impression's reader had clicked before, each story once, the latest last."""
    clicked: dict[str, list[int]] = {}
    found = []
    for row in rows:
        own = clicked.setdefault(row.user, [])
        found.append([*own])
        for story, click in zip(row.stories, row.clicked, strict=True):
            if click:
                own[:] = [one for one in own if one != story] + [story]
    return found


def trained(rows: list[Row], encoder: Path, half_life_s: float | None) -> list[Floats]:
    """What training's replay makes of the log."""
    impressions = pl.DataFrame(
        {name: [getattr(row, name) for row in rows] for name in Row.__dataclass_fields__},
        schema_overrides={"shown": pl.List(pl.UInt32)},
    )
    log = add_earlier(impressions, 20, 20).with_columns(
        history=pl.Series(histories(rows), dtype=pl.List(pl.UInt32)),
        candidates=pl.Series([row.stories for row in rows]),
        clicked=pl.Series([row.clicked for row in rows]),
    )
    vectors = SentenceEncoder(encoder).embed(TITLES).astype(np.float16).astype(np.float32)
    categories = [CATEGORIES[number % len(CATEGORIES)] for number in range(STORIES)]
    found = Log(log.lazy())
    replay = Replay(Catalogue(categories, vectors), HalfLives(slow_s=half_life_s))
    parts = [
        part
        for some in replay.moments(found, found.labelled)
        for part in np.split(some.matrix.astype(np.float64), np.cumsum(some.sizes)[:-1])
    ]
    assert len(parts) == len(rows)
    return parts


@torch.inference_mode()
def tower_scores(rows: list[Row], encoder: Path, tower: Tower) -> list[Floats]:
    """What training's tower makes of it."""
    vectors = torch.from_numpy(story_vectors(tower, TITLES, encoder))
    found = []
    for row, history in zip(rows, histories(rows), strict=True):
        clicked = vectors[history] if history else torch.zeros(1, vectors.shape[1])
        known = torch.full((1, len(clicked)), bool(history))
        reader = tower.readers(clicked[None], known)
        found.append(tower(reader, vectors[row.stories][None])[0].numpy().astype(np.float64))
    return found


@dataclass
class Site:
    """The service's parts, at a moment of the log."""

    store: Store
    live: Live
    ranking: Ranking
    now: float = 0.0

    async def see(self, row: Row) -> Floats:
        """The matrix that the trees get for an impression's stories."""
        past = await self.store.reads.past(row.user)
        history = [Story(one.title, one.category, one.id) for one in past.history]
        reader = Reader(history, passed=past.passed, clicked=past.clicked)
        names = [f"N{number}" for number in row.stories]
        stories = await self.store.reads.stories(names)
        candidates = [Story(stories[n].title, stories[n].category, n) for n in names]
        knowledge = Knowledge(self.live, lambda: self.now)
        known = await knowledge.gather(self.ranking, [(reader, candidates)])
        return judge(self.ranking, known, np.full(len(names), 0.25)).matrix

    def count(self, row: Row) -> None:
        """The site tells what was shown and clicked."""
        names = [f"N{number}" for number in row.stories]
        shown = ImpressionEvent(row.impression, row.seconds, row.user, names)
        clicks = [
            ClickEvent(f"{row.impression}-{place}", row.seconds, row.user, name, row.impression)
            for place, (name, click) in enumerate(zip(names, row.clicked, strict=True))
            if click
        ]
        with self.store.database.writing() as connection:
            add_events(connection, [shown], clicks, self.store.key, row.seconds)
        self.store.reads.outdate_reader(row.user)
        while self.live.follow():
            pass


@contextmanager
def site_of(url: str, model: Path, encoder: Path, half_life_s: float | None) -> Iterator[Site]:
    with ExitStack() as stack:
        store = stack.enter_context(running(url))
        encoders = Encoders(encoder, store)
        encoders.start()
        stack.callback(encoders.stop)
        ranking = load_ranking(model, encoders, half_life_s)
        assert ranking is not None
        yield Site(store, Live(store.database, half_life_s, 1000), ranking)


@pytest.fixture
def without_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training's log does not know at which positions stories were shown, so all weigh alike."""
    ones = np.ones(MAX_POSITION + 1)
    alike: Callable[..., Floats] = lambda *_: ones  # noqa: E731
    monkeypatch.setattr(LiveFigures, "position_weights", alike)


@pytest.mark.usefixtures("without_positions")
@pytest.mark.parametrize(("seed", "half_life_s"), [(0, None), (1, 6 * 3600.0)])
async def test_serving_sees_what_training_saw(
    store_url: str,
    ranked: Path,
    encoder: Path,
    tower: Tower,
    seed: int,
    half_life_s: float | None,
) -> None:
    rows = make_rows(seed)
    expected = trained(rows, encoder, half_life_s)
    scores = tower_scores(rows, encoder, tower)
    seen = []
    with site_of(store_url, ranked, encoder, half_life_s) as site:
        await site.store.put_stories(
            [
                StoredStory(f"N{n}", TITLES[n], CATEGORIES[n % len(CATEGORIES)], None)
                for n in range(STORIES)
            ]
        )
        for _, group in groupby(rows, key=lambda row: row.time):
            together = list(group)
            site.now = together[0].seconds
            seen += [await site.see(row) for row in together]
            for row in together:
                site.count(row)
    assert len(seen) == len(expected) == READERS * ROUNDS
    for row, found, wanted, tower_score in zip(rows, seen, expected, scores, strict=True):
        for place, name in enumerate(NAMES):
            column = tower_score if name == "tower" else wanted[:, place]
            column = np.full(SHOWN, math.log(0.25 / 0.75)) if name == "text" else column
            tolerance = 2e-3 if name in APPROXIMATE else 3e-2 if name == "tower" else 1e-6
            close = np.allclose(found[:, place], column, rtol=0, atol=tolerance)
            assert close, (row.impression, name, found[:, place], column)
    last = np.concatenate(seen[-READERS:])
    idle = [name for place, name in enumerate(NAMES) if np.ptp(last[:, place]) == 0]
    assert set(idle) <= {"hour", "text"}  # all else has been put to the test
