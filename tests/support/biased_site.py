"""A small simulated site of which the truth is known: tastes, position bias, logged orders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.data.collect import MAPPING, MAPPING_FILE, SHOWN, SHOWN_FILE, STORIES_FILE
from training.evaluation.shown import Shown
from training.folders import write_whole

Floats = NDArray[np.float64]
Policy = Literal["quality", "taste", "random"]
STORIES_A_DAY, SIZE, DAYS, TOPICS = 20, 10, 4, 4
TRUE = 1 / np.arange(1, SIZE + 1) ** 0.8
"""How likely a reader looks at each place."""
START_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000


@dataclass(frozen=True, slots=True)
class Site:
    """readers, days: [lists]. stories, chance (of a click once seen) and clicked: [lists, SIZE], in
    the order shown. random: which lists were shuffled. quality: of each story."""

    readers: NDArray[np.int64]
    days: NDArray[np.int64]
    stories: NDArray[np.int64]
    chance: Floats
    clicked: NDArray[np.bool_]
    random: NDArray[np.bool_]
    quality: Floats

    def earned(self, scores: Floats) -> float:
        """The true clicks per list of the order by scores [lists, SIZE]."""
        best = np.argsort(-scores, axis=1)
        return float((np.take_along_axis(self.chance, best, 1) @ TRUE).mean())


def simulate(
    policy: Policy, seed: int, lists: int = 6000, readers: int = 600, shuffled: float = 0.0
) -> Site:
    """quality: stories are ordered by a noisy idea of their quality, the same for all readers at
    one moment. taste: by how much the reader will like them. shuffled: the share of lists in random
    order."""
    random = np.random.default_rng(seed)
    taste = random.dirichlet(np.ones(TOPICS), readers) * TOPICS
    topic = random.integers(TOPICS, size=DAYS * STORIES_A_DAY)
    quality = random.beta(2, 12, DAYS * STORIES_A_DAY)
    who, day = random.integers(readers, size=lists), random.integers(DAYS, size=lists)
    drawn = random.random((lists, STORIES_A_DAY)).argsort(1)[:, :SIZE]
    stories = day[:, None] * STORIES_A_DAY + drawn
    chance = np.minimum(quality[stories] * taste[who[:, None], topic[stories]], 0.95)
    idea = {
        "quality": quality[stories] * random.lognormal(0, 0.8, stories.shape),
        "taste": chance * random.lognormal(0, 0.3, stories.shape),
        "random": random.random(stories.shape),
    }[policy]
    by_chance = random.random(lists) < shuffled
    idea[by_chance] = random.random((int(by_chance.sum()), SIZE))
    order = np.argsort(-idea, axis=1)
    stories, chance = (np.take_along_axis(one, order, 1) for one in (stories, chance))
    clicked = random.random(chance.shape) < chance * TRUE
    return Site(who, day, stories, chance, clicked, by_chance, quality)


def as_shown(site: Site) -> Shown:
    """What reading its log would give."""
    lists = len(site.readers)
    return Shown(
        starts=np.arange(lists) * SIZE,
        sizes=np.full(lists, SIZE),
        readers=site.readers,
        days=site.days,
        keys=[f"i{number}" for number in range(lists)],
        ids=pl.Series([f"i{number}" for number in range(lists)]),
        stories=site.stories.ravel(),
        clicked=site.clicked.ravel(),
    )


def write_log(site: Site, folder: Path) -> Path:
    """The site's log as `collect` writes it."""
    folder.mkdir(parents=True)
    count = len(site.quality)
    names = [f"s{number}" for number in range(count)]
    titles = [f"Story number {number}" for number in range(count)]
    pl.DataFrame({"id": names, "title": titles, "category": ["news"] * count}).write_parquet(
        folder / STORIES_FILE
    )
    lists = len(site.readers)
    rows = {
        "id": [f"i{number}" for number in range(lists)],
        "reader": [f"r{number}" for number in site.readers],
        "time": START_MS + site.days * 86_400_000 + np.arange(lists) * 1000 % 86_400_000,
        "history": [[] for _ in range(lists)],
        "shown": [[names[story] for story in row] for row in site.stories],
        "clicked": site.clicked.tolist(),
        "model": ["news"] * lists,
        "alias": ["shuffled" if one else "default" for one in site.random],
    }
    pl.DataFrame(rows, SHOWN).write_parquet(folder / SHOWN_FILE)
    write_whole(folder / MAPPING_FILE, MAPPING)
    return folder
