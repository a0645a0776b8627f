"""Metrics against MIND's own definitions written out, all orders of ties, and sums by hand."""

import itertools
import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import ndcg_score, roc_auc_score

from training import metrics
from training.metrics import Flags, Floats, Ratio


def mind_dcg(y_true: Floats, y_score: Floats, k: int) -> float:
    """MIND's evaluate.py, rewritten from its definition: gain 2^y - 1, discount log2(rank + 1)."""
    best_first = sorted(range(len(y_score)), key=lambda i: -y_score[i])
    gains = [2 ** float(y_true[i]) - 1 for i in best_first[:k]]
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


def mind_metrics(y_true: Floats, y_score: Floats) -> list[float]:
    """[AUC, MRR, nDCG@5, nDCG@10] by counting; equal scores rank in their order of arrival."""
    clicks = [s for s, y in zip(y_score, y_true, strict=True) if y]
    others = [s for s, y in zip(y_score, y_true, strict=True) if not y]
    wins = [1.0 if c > o else 0.5 if c == o else 0.0 for c in clicks for o in others]
    best_first = sorted(range(len(y_score)), key=lambda i: -y_score[i])
    reciprocal = [1 / (rank + 1) for rank, i in enumerate(best_first) if y_true[i]]
    return [
        sum(wins) / len(wins),
        sum(reciprocal) / len(clicks),
        mind_dcg(y_true, y_score, 5) / mind_dcg(y_true, y_true, 5),
        mind_dcg(y_true, y_score, 10) / mind_dcg(y_true, y_true, 10),
    ]


def impression(random: np.random.Generator, size: int) -> tuple[Flags, Floats]:
    clicked = np.zeros(size, dtype=np.bool_)
    clicked[random.choice(size, size=random.integers(1, size), replace=False)] = True
    return clicked, random.normal(size=size)


def values(figures: dict[str, Ratio]) -> list[float]:
    return [figures[name].value for name in metrics.RANKING]


def test_ranking_by_hand() -> None:
    clicked = [np.array([False, True, False, True])]
    scores = [np.array([0.9, 0.8, 0.3, 0.1])]
    ideal = 1 + 1 / math.log2(3)
    found = (1 / math.log2(3) + 1 / math.log2(5)) / ideal
    # Of the four pairs of click and non-click, only (0.8, 0.3) is in order; ranks are 2 and 4.
    assert values(metrics.ranking(clicked, scores)) == pytest.approx([0.25, 0.375, found, found])


def test_ranking_equals_minds_definition() -> None:
    random = np.random.default_rng(0)
    rows = [impression(random, int(size)) for size in random.integers(2, 60, size=100)]
    figures = metrics.ranking([c for c, _ in rows], [s for _, s in rows])
    expected = np.mean([mind_metrics(c.astype(float), s) for c, s in rows], axis=0)
    assert values(figures) == pytest.approx(list(expected), abs=1e-12)


def test_ties_get_the_mean_over_all_their_orders() -> None:
    clicked = np.array([True, False, False, True, False, False])
    scores = np.array([0.5, 0.5, 0.9, 0.5, 0.1, 0.1])
    orders = [list(order) for order in itertools.permutations(range(6))]
    expected = np.mean([mind_metrics(clicked[o].astype(float), scores[o]) for o in orders], axis=0)
    for order in orders[::97]:
        found = metrics.rank_one(clicked[order], scores[order])
        assert list(found) == pytest.approx(list(expected), abs=1e-12)


def test_ranking_equals_scikit_learns_with_ties() -> None:
    random = np.random.default_rng(9)
    for size in random.integers(2, 40, size=50):
        clicked, scores = impression(random, int(size))
        scores = np.round(scores, 1)
        auc, _, ndcg5, ndcg10 = metrics.rank_one(clicked, scores)
        gains = clicked.astype(float)
        expected = [ndcg_score([gains], [scores], k=k) for k in (5, 10)]
        assert [auc, ndcg5, ndcg10] == pytest.approx([roc_auc_score(clicked, scores), *expected])


def test_constant_scores_are_chance() -> None:
    clicked = np.array([True, True, False, False, False])
    assert metrics.rank_one(clicked, np.full(5, 0.3))[0] == 0.5


def test_one_sided_impressions_do_not_count() -> None:
    clicked = [np.array([True, True]), np.array([True, False]), np.array([False])]
    scores = [np.array([0.1, 0.2]), np.array([0.9, 0.2]), np.array([0.5])]
    figures = metrics.ranking(clicked, scores)
    assert values(figures) == [1, 1, 1, 1]
    assert list(figures["auc"].bottom) == [0, 1, 0]


def test_log_loss_equals_scikit_learns() -> None:
    random = np.random.default_rng(1)
    rows = [random.random(5) < 0.3 for _ in range(20)]
    chances = [random.random(5) for _ in range(20)]
    chances[0][:2] = [0.0, 1.0]
    expected = sklearn_log_loss(np.concatenate(rows), np.concatenate(chances))
    assert metrics.log_loss(rows, chances).value == pytest.approx(expected)


def test_calibration_by_hand() -> None:
    clicked = np.array([False, True, True, True])
    bins = metrics.calibration_bins(clicked, np.array([0.1, 0.3, 0.6, 0.8]), bins=2)
    assert [b.count for b in bins] == [2, 2]
    assert [b.predicted for b in bins] == pytest.approx([0.2, 0.7])
    assert [b.observed for b in bins] == [0.5, 1.0]
    assert metrics.expected_calibration_error(bins) == pytest.approx(0.5 * 0.3 + 0.5 * 0.3)


def test_calibration_curve_equals_scikit_learns() -> None:
    random = np.random.default_rng(2)
    chances = np.round(random.beta(1, 20, size=3000), 3)  # rounded, so that many tie
    clicked = random.random(3000) < chances
    bins = metrics.calibration_bins(clicked, chances)
    observed, predicted = calibration_curve(clicked, chances, n_bins=15, strategy="quantile")
    assert [b.predicted for b in bins] == pytest.approx(list(predicted))
    assert [b.observed for b in bins] == pytest.approx(list(observed))
    assert sum(b.count for b in bins) == 3000
    assert metrics.expected_calibration_error(bins) < 0.02


def test_equal_probabilities_share_one_bin() -> None:
    clicked = np.array([True, False, False, False])
    assert metrics.expected_calibration_error(
        metrics.calibration_bins(clicked, np.full(4, 0.25))
    ) == pytest.approx(0)


def test_pairs_are_a_click_and_a_non_click_and_repeat_with_the_seed() -> None:
    random = np.random.default_rng(3)
    rows = [impression(random, 12)[0] for _ in range(50)] + [np.array([True])]
    pairs = metrics.draw_pairs(rows, seed=7)
    assert [pair.impression for pair in pairs] == list(range(50))
    assert all(rows[p.impression][p.click] and not rows[p.impression][p.other] for p in pairs)
    assert pairs == metrics.draw_pairs(rows, seed=7)
    assert pairs != metrics.draw_pairs(rows, seed=8)


def test_every_click_and_non_click_can_be_drawn() -> None:
    flags = np.array([True, False, True, False])
    drawn = {(p.click, p.other) for s in range(60) for p in metrics.draw_pairs([flags], s)}
    assert drawn == {(0, 1), (0, 3), (2, 1), (2, 3)}


def test_over_pairs_puts_points_at_their_impressions() -> None:
    pairs = [metrics.Pair(0, 0, 1), metrics.Pair(2, 1, 0)]
    figure = metrics.over_pairs(pairs, [2, 1], 2, 3)
    assert (list(figure.top), list(figure.bottom)) == ([2, 0, 1], [2, 0, 2])
    assert figure.value == 0.75


def test_roc_has_the_right_area_when_thinned() -> None:
    random = np.random.default_rng(4)
    clicked = random.random(5000) < 0.2
    scores = random.normal(size=5000) + clicked
    false, true = metrics.roc(clicked, scores)
    wins = scores[clicked][:, None] > scores[~clicked][None, :]
    assert len(false) <= metrics.CURVE_POINTS
    assert np.trapezoid(true, false) == pytest.approx(wins.mean(), abs=0.005)


def test_interval_equals_a_plain_bootstrap() -> None:
    random = np.random.default_rng(5)
    bottom = random.integers(0, 5, size=40).astype(float)
    figure = Ratio(bottom * random.random(40), bottom)
    found = metrics.estimates({"x": figure}, rounds=4000, seed=0)["x"]
    draws = [random.integers(0, 40, size=40) for _ in range(4000)]
    means = [figure.top[i].sum() / figure.bottom[i].sum() for i in draws]
    assert found.value == figure.top.sum() / figure.bottom.sum()
    assert found.low == pytest.approx(np.percentile(means, 2.5), abs=0.01)
    assert found.high == pytest.approx(np.percentile(means, 97.5), abs=0.01)


def test_interval_holds_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(6)
    hits = 0
    for seed in range(300):
        figure = Ratio(random.normal(1.0, 1.0, size=60), np.ones(60))
        found = metrics.estimates({"x": figure}, rounds=300, seed=seed)["x"]
        hits += found.low <= 1.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.99


def test_intervals_repeat_with_the_seed() -> None:
    figure = Ratio(np.random.default_rng(7).random(30), np.ones(30))
    first, again, other = (
        metrics.estimates({"x": figure}, rounds=200, seed=seed)["x"] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_difference_is_surer_than_its_parts() -> None:
    random = np.random.default_rng(8)
    base = random.random(200)
    better = Ratio(base + 0.02 + random.normal(0, 0.01, size=200), np.ones(200))
    figures = {"x": better}
    change = metrics.differences(figures, {"x": Ratio(base, np.ones(200))}, 500, 0)["x"]
    own = metrics.estimates(figures, 500, 0)["x"]
    assert change.value == pytest.approx(0.02, abs=0.003)
    assert change.low > 0
    assert change.high - change.low < 0.1 * (own.high - own.low)


def test_one_impression_has_no_interval() -> None:
    found = metrics.estimates({"x": Ratio(np.ones(1), np.ones(1))}, 100, 0)["x"]
    assert found.value == 1
    assert math.isnan(found.low)


def test_resamples_where_nothing_counts_give_no_warning() -> None:
    figure = Ratio(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert metrics.estimates({"x": figure}, 50, 0)["x"].value == 1
