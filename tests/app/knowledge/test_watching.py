"""What the metrics say of the candidates that a ranker was given."""

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import lightgbm
import numpy as np
import pytest
from prometheus_client import REGISTRY

from app.knowledge.judging import Judged
from app.knowledge.watching import LEAST, MEMORY, Drift, Watch, moves
from app.observability import metrics
from app.ranker.features import NAMES, TEXT, VERSION, Floats
from app.ranker.ranker import Description, Model, Ranker, Spread, Trees, spreads

TREES = Model(sha256="0" * 64, slope=1, intercept=0)
MODEL = "watched"


def described(known: dict[str, Spread]) -> Description:
    return Description(
        version=VERSION,
        features=NAMES,
        encoder=None,
        tower=False,
        objective="binary",
        half_life_s=None,
        recent_half_life_s=3600,
        ranker=TREES,
        first_stage=TREES,
        spreads=known,
    )


def matrix(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(2, 3, (count, len(NAMES)))


def order_of(values: Floats) -> list[int]:
    return [int(index) for index in np.argsort(-values, kind="stable")]


def judged(seen: Floats, order_by: Floats | None = None) -> Judged:
    trees = Trees(object.__new__(lightgbm.Booster), 1, 0)  # it predicts nothing here
    order = order_of(seen[:, TEXT] if order_by is None else order_by)
    by_text = np.ones(len(seen), np.bool_)
    ranker = Ranker(described({}), trees, trees)
    return Judged(np.full(len(seen), 0.1), by_text, order, seen, ranker)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"frontpage_{name}", {"model": MODEL, **labels})


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    ours = (
        *(metrics.RANKED, metrics.COVERED, metrics.MOVED),
        *(metrics.FEATURE_SHIFT, metrics.FEATURE_MISSING),
    )
    yield
    for metric in ours:
        metric.remove_by_labels({"model": MODEL})


@pytest.mark.parametrize(
    ("after", "moved"),
    [
        ([9, 8, 7, 6], 0),
        ([6, 7, 8, 9], 0.5),
        ([9, 7, 8, 6], 2 / 16),
        ([1, 1, 1, 1], 0),  # ties keep the order of the request
    ],
)
def test_how_far_an_order_moves(after: list[float], moved: float) -> None:
    before = np.array([4.0, 3.0, 2.0, 1.0])
    assert list(moves(before, order_of(np.array(after)), [4])) == [moved]


def test_stories_that_the_language_model_did_not_judge_do_not_move() -> None:
    before = np.array([np.nan, 4.0, np.nan, 3.0])
    assert list(moves(before, [3, 1, 0, 2], [4])) == [0.5]
    assert list(moves(before, [1, 3, 0, 2], [4])) == [0]
    assert list(moves(before, [0, 1, 2, 3], [2, 2])) == []


def test_features_drift_only_where_the_language_model_was_asked() -> None:
    seen = matrix(3 * LEAST)
    seen[::2, TEXT] = np.nan
    watch, description = Watch(), described(spreads(matrix(20_000)))
    found = replace(judged(seen), by_text=~np.isnan(seen[:, TEXT]))
    watch.observe(MODEL, description, found, [len(seen)])
    assert value("feature_missing_excess", feature="text") == 0


def test_only_rankings_move_and_each_on_its_own() -> None:
    before, after = np.array([5.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 3.0])
    assert list(moves(before, order_of(after), [1, 3])) == [0]
    assert list(moves(before, order_of(after), [1, 1, 1, 1])) == []


def test_candidates_of_which_something_is_known_are_counted() -> None:
    seen = np.full((4, len(NAMES)), np.nan)
    seen[:, NAMES.index("shown")] = [0, 0.7, 3, 0]
    seen[:, NAMES.index("history_length")] = [0, 0, 0, 2]
    seen[:3, NAMES.index("tower")] = 0.0
    seen[:, TEXT] = [4, 3, 2, 1]
    watch = Watch()
    watch.observe(MODEL, described({}), judged(seen, np.array([1.0, 2.0, 3.0, 4.0])), [4])
    watch.observe(MODEL, described({}), judged(seen), [2, 2])
    assert value("ranker_candidates_total") == 8
    covered = {name: value("ranker_covered_total", known=name) for name in ("live", "history")}
    assert covered == {"live": 4, "history": 2}
    assert value("ranker_covered_total", known="vectors") == 6
    assert (value("ranker_moved_count"), value("ranker_moved_sum")) == (3, 0.5)
    assert value("feature_shift", feature="text") is None  # the ranker says nothing of training


def test_what_is_as_in_training_does_not_drift_and_what_is_not_does() -> None:
    training = matrix(20_000)
    training[:, NAMES.index("hour")] = 12
    description = described(spreads(training))
    seen = matrix(2 * LEAST, seed=1)
    seen[:, NAMES.index("rate")] += 4 * 3
    seen[::2, NAMES.index("text")] = np.nan
    seen[:, NAMES.index("tower")] = np.nan
    watch = Watch()
    watch.observe(MODEL, description, judged(seen[: LEAST // 2]), [LEAST // 2])
    assert value("feature_shift", feature="rate") is None  # too few yet
    watch.observe(MODEL, description, judged(seen[LEAST // 2 :]), [3 * LEAST // 2])
    assert value("feature_shift", feature="rate") == pytest.approx(4, abs=0.2)
    assert value("feature_shift", feature="shown") == pytest.approx(0, abs=0.2)
    assert value("feature_shift", feature="text") == pytest.approx(0, abs=0.2)
    assert np.isnan(value("feature_shift", feature="tower") or 0)
    assert value("feature_shift", feature="hour") is None  # no deviation to measure by
    excess = {name: value("feature_missing_excess", feature=name) for name in NAMES}
    assert (excess["rate"], excess["text"], excess["tower"]) == pytest.approx((0, 0.5, 1), abs=1e-3)


def test_another_version_of_the_model_begins_anew() -> None:
    seen, watch = matrix(LEAST), Watch()
    watch.observe(MODEL, described(spreads(seen)), judged(seen), [LEAST])
    assert value("feature_shift", feature="rate") == pytest.approx(0, abs=1e-9)
    other = described(spreads(seen - 3))
    watch.observe(MODEL, other, judged(seen[:10]), [10])
    assert value("feature_shift", feature="rate") is None
    watch.observe(MODEL, other, judged(seen), [LEAST])
    assert value("feature_shift", feature="rate") == pytest.approx(1, abs=0.1)


def test_what_was_long_ago_is_forgotten() -> None:
    drift = Drift({"rate": Spread(mean=0, deviation=1, missing=0)})
    for level, count in ((5.0, 10), (0.0, 5)):
        for _ in range(count):
            drift.see(np.full((MEMORY // 10, len(NAMES)), level))
    assert drift.shift("rate") == pytest.approx(
        5 * (np.exp(-0.5) - np.exp(-1.5)) / (1 - np.exp(-1.5)), abs=1e-6
    )
    drift.see(np.array([[np.inf] * len(NAMES)]))  # counts as missing
    assert 0 < drift.missing_excess("rate") < 1e-3


def test_observing_fifty_candidates_takes_less_than_a_tenth_of_a_millisecond() -> None:
    seen, watch = matrix(50), Watch()
    description, one = described(spreads(matrix(LEAST))), judged(seen)
    for _ in range(LEAST // 50 + 1):
        watch.observe(MODEL, description, one, [50])
    taken = []
    for _ in range(300):
        start = perf_counter()
        watch.observe(MODEL, description, one, [50])
        taken.append(perf_counter() - start)
    assert min(taken) < 0.0001  # the least, since the machine may be busy
