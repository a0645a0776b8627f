"""Measure how near `training estimate` comes to the truth on a simulated site, which knows it.

  python -m loadtests.training.biased_site --seeds 40

Readers with tastes for topics are shown ten stories a list, and look at place k with the chance
k^-0.8. Lists are ordered by a noisy idea of each story's quality, the same for all readers, or by
how much the reader will like it, some of them at random instead. Estimated is what an order by a
noisy knowledge of the reader would have earned. Prints, over all seeds, the places' propensities
over the true ones, the gain in clicks a list beside the true one, and how often the 95 % intervals
hold the truth.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.data.collect import MAPPING, MAPPING_FILE, SHOWN, SHOWN_FILE, STORIES_FILE
from training.evaluation.earnings import bins
from training.evaluation.logged import Rules, estimate, judge
from training.evaluation.positions import compare
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


@dataclass(frozen=True, slots=True)
class Run:
    """One seed. places: estimated over true, all but the first. inside: whether the interval of
    each holds the truth. gain, true_gain: clicks a list over the logged order. held: whether the
    gain's interval holds the truth."""

    places: Floats
    inside: NDArray[np.bool_]
    gain: float
    true_gain: float
    held: bool


def run(policy: Policy, compared: str, shuffled: float, seed: int) -> Run:
    """compared: what places are compared by: story, served or random."""
    site = simulate(policy, seed, shuffled=shuffled)
    shown = as_shown(site)
    good = site.chance * np.random.default_rng(seed + 1000).lognormal(0, 0.2, site.chance.shape)
    levels, every = np.arange(SIZE), np.ones(len(shown.sizes), np.bool_)
    lists, groups = every, shown.stories
    if compared == "served":
        groups = groups * 1000 + bins(site.chance.ravel())
    elif compared == "random":
        lists, groups = site.random, shown.each(np.arange(len(shown.sizes)))
    places = compare(shown, levels, lists, groups)
    rules = Rules(clip=10, least=100, monotone=True, rounds=200, seed=0)
    found = estimate(places, judge(shown, levels, every, [good.ravel()], 0), ["good"], rules)
    value, low, high = np.array([(p.value, p.low, p.high) for p in found.propensities[1:]]).T
    gain = found.lines[0].over_logged
    true = site.earned(good) - float((site.chance @ TRUE).mean())
    return Run(
        places=value / TRUE[1:],
        inside=(low <= TRUE[1:]) & (TRUE[1:] <= high),
        gain=gain.value,
        true_gain=true,
        held=gain.low <= true <= gain.high,
    )


CASES: tuple[tuple[Policy, str, float], ...] = (
    ("quality", "story", 0.0),
    ("taste", "story", 0.3),
    ("taste", "served", 0.3),
    ("taste", "random", 0.3),
)


def main() -> None:
    """Print a row for each way to order and to compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=40)
    seeds = range(parser.parse_args().seeds)
    print("| ordered by | shuffled | compared by | place 2 | place 10 | in interval", end="")
    print(" | true gain | estimated | in interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for policy, compared, shuffled in CASES:
        runs = [run(policy, compared, shuffled, seed) for seed in seeds]
        places = np.mean([one.places for one in runs], 0)
        print(
            f"| {policy} | {shuffled:.0%} | {compared} | {places[0]:.2f} | {places[-1]:.2f}"
            f" | {np.mean([one.inside for one in runs]):.0%}"
            f" | {np.mean([one.true_gain for one in runs]):.3f}"
            f" | {np.mean([one.gain for one in runs]):.3f}"
            f" | {np.mean([one.held for one in runs]):.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
