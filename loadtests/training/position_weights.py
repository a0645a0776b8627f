"""Measure whether trees rank better if they learn from clicks corrected for their places.

  python -m loadtests.training.position_weights --seeds 3

On the simulated site of loadtests.training.biased_site, whose propensities are taken as known.
Trees see a text score (the true chance with noise) and each story's click-through in the first
third of the lists, learn from the second third, and order the last. Prints the true clicks a list
by how clicks count: as they are; with the logarithm of the place's propensity as an offset; and
with a weight of one over the propensity, at most ten.
"""

import argparse

import lightgbm
import numpy as np

from loadtests.training.biased_site import SIZE, TRUE, Floats, Policy, Site, simulate
from training.ranking.fit import COMMON, OBJECTIVES, ROUNDS

POLICIES: tuple[Policy, ...] = ("quality", "taste")
WAYS = ("as they are", "offset", "weights")
LISTS = 12_000


def features(site: Site, seed: int) -> Floats:
    """Text score and click-through of the first third, [lists, SIZE, 2]."""
    noise = np.random.default_rng(seed).normal(0, 0.8, site.chance.shape)
    first, count = slice(0, LISTS // 3), len(site.quality)
    shown = np.bincount(site.stories[first].ravel(), minlength=count)
    clicks = np.bincount(site.stories[first].ravel(), site.clicked[first].ravel(), count)
    rate = (clicks + 1) / (shown + 15)
    return np.stack([np.log(site.chance) + noise, rate[site.stories]], -1)


def earned(site: Site, matrix: Floats, objective: str, way: str) -> float:
    """The true clicks a list of the last third, ordered by trees that learned from the second."""
    learned, judged = slice(LISTS // 3, 2 * LISTS // 3), slice(2 * LISTS // 3, LISTS)
    clicked = site.clicked[learned].ravel().astype(np.float64)
    propensity = np.tile(TRUE, LISTS // 3)
    data = lightgbm.Dataset(
        matrix[learned].reshape(-1, 2),
        clicked,
        group=[SIZE] * (LISTS // 3) if objective == "lambdarank" else None,
        init_score=np.log(propensity) if way == "offset" else None,
        weight=np.where(clicked > 0, np.minimum(1 / propensity, 10), 1)
        if way == "weights"
        else None,
    )
    trees = lightgbm.train(COMMON | {"objective": objective, "num_threads": 1}, data, ROUNDS)
    raw = np.asarray(trees.predict(matrix[judged].reshape(-1, 2), raw_score=True))
    best = np.argsort(-raw.reshape(-1, SIZE), axis=1)
    return float((np.take_along_axis(site.chance[judged], best, 1) @ TRUE).mean())


def main() -> None:
    """Print a row for each order of the log and each objective."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    print(f"| ordered by | objective | {' | '.join(WAYS)} |\n| --- | --- | --- | --- | --- |")
    for policy in POLICIES:
        sites = [simulate(policy, seed, lists=LISTS) for seed in seeds]
        made = [(site, features(site, seed)) for seed, site in enumerate(sites)]
        for objective in OBJECTIVES:
            found = [np.mean([earned(*one, objective, way) for one in made]) for way in WAYS]
            cells = " | ".join(f"{value:.4f}" for value in found)
            print(f"| {policy} | {objective} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
