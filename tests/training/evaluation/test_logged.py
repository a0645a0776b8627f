"""Propensities of places, and what other orders would have earned, on simulated sites of which the
truth is known."""

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from loadtests.training.biased_site import SIZE, TRUE, Floats, Site, as_shown, simulate
from training import metrics
from training.errors import TrainingError
from training.evaluation.logged import Found, Judged, Rules, estimate, judge, reorder
from training.evaluation.positions import compare, falling, fit, pool, propensities
from training.metrics import Estimate

LEVELS = np.arange(SIZE)
RULES = Rules(clip=10, least=100, monotone=True, rounds=200, seed=0)


def candidates(site: Site, seed: int = 9) -> tuple[Floats, Floats]:
    """Scores [lists, SIZE] of a model that knows readers well, and of one that repeats the logged
    order with some noise."""
    random = np.random.default_rng(seed)
    good = site.chance * random.lognormal(0, 0.7, site.chance.shape)
    return good, random.normal(0, 0.3, site.chance.shape) - np.arange(SIZE)


def run(site: Site, rules: Rules = RULES, shuffled: bool = False) -> Found:
    """Estimates for the two models; places are compared by stories, or in shuffled lists."""
    shown = as_shown(site)
    every = np.ones(len(shown.sizes), np.bool_)
    numbers = shown.each(np.arange(len(shown.sizes)))
    groups = (site.random, numbers) if shuffled else (every, shown.stories)
    places = compare(shown, LEVELS, *groups)
    scores = [one.ravel() for one in candidates(site)]
    return estimate(places, judge(shown, LEVELS, every, scores, 0), ["good", "copy"], rules)


def holds(one: Estimate, truth: float) -> bool:
    return one.low <= truth <= one.high


def logged_truth(site: Site) -> float:
    return float((site.chance @ TRUE).mean())


def test_places_are_recovered_within_their_intervals() -> None:
    found = run(simulate("quality", seed=1))
    inside = [holds(*pair) for pair in zip(found.propensities[1:], TRUE[1:], strict=True)]
    assert sum(inside) >= SIZE - 2  # of nine intervals of 95 %
    np.testing.assert_allclose([one.value for one in found.propensities], TRUE, rtol=0.2)
    assert all(one.high - one.low < 0.15 for one in found.propensities)


def test_counting_clicks_prefers_the_wrong_model_and_the_estimate_the_right_one() -> None:
    site = simulate("quality", seed=1)
    good, copy = candidates(site)
    naive = [
        metrics.ranking(list(site.clicked), list(scores))["auc"].value for scores in (good, copy)
    ]
    assert naive[1] > naive[0] + 0.01
    truth = [site.earned(scores) for scores in (good, copy)]
    assert truth[0] > truth[1] + 0.1
    found = run(site)
    assert found.lines[1].over_first is not None
    assert found.lines[1].over_first.high < 0 < found.lines[0].over_logged.low
    for line, true in zip(found.lines, truth, strict=True):
        assert holds(line.clicks, true)
        assert holds(line.over_logged, true - logged_truth(site))
    assert holds(found.logged, logged_truth(site))


def test_an_order_by_taste_flatters_the_first_places_unless_some_lists_are_random() -> None:
    site = simulate("taste", seed=2, shuffled=0.3)
    gain = site.earned(candidates(site)[0]) - logged_truth(site)
    wrong, right = run(site), run(site, shuffled=True)
    assert wrong.lines[0].over_logged.low > 1.5 * gain
    assert all(one.high < true for one, true in zip(wrong.propensities[1:], TRUE[1:], strict=True))
    assert holds(right.lines[0].over_logged, gain)


def test_the_logged_order_earns_what_it_earned() -> None:
    site = simulate("quality", seed=3, lists=1500)
    shown = as_shown(site)
    every = np.ones(1500, np.bool_)
    same = judge(shown, LEVELS, every, [np.tile(-LEVELS, 1500).astype(float)], 0)
    places = compare(shown, LEVELS, every, shown.stories)
    line = estimate(places, same, ["same"], RULES).lines[0]
    assert line.clicks.value == pytest.approx(site.clicked.sum() / 1500)
    assert line.over_logged.low == pytest.approx(0) == pytest.approx(line.over_logged.high)
    assert line.effective == pytest.approx(site.clicked.sum())
    assert line.clipped == 0


def test_too_few_effective_clicks_are_refused() -> None:
    site = simulate("quality", seed=4, lists=1500)
    clicks = site.clicked.sum()
    assert clicks > 700
    rules = Rules(clip=10, least=700, monotone=True, rounds=2, seed=0)
    with pytest.raises(TrainingError, match=rf"good: the {clicks} clicks say as much .* as \d+ of"):
        run(site, rules)


def test_too_few_readers_are_refused() -> None:
    with pytest.raises(TrainingError, match="29 readers are too few"):
        run(simulate("quality", seed=4, readers=29))


def test_clipping_loses_weight_but_not_clicks() -> None:
    """With all weights cut to one the clicks are the logged ones per look, not fewer."""
    site = simulate("quality", seed=1)
    wide, narrow = (run(site, Rules(clip, 100, True, 100, 0)).lines[0] for clip in (100, 1.5))
    assert narrow.clipped > 0.1 > wide.clipped == 0
    assert narrow.effective > wide.effective
    assert logged_truth(site) < narrow.clicks.value < wide.clicks.value


def test_the_fit_is_that_of_a_poisson_regression_with_an_effect_for_each_group() -> None:
    random = np.random.default_rng(0)
    shown = random.integers(1, 200, (6, 4)).astype(float)
    clicked = random.poisson(shown * random.random((6, 1)) * [1, 0.6, 0.4, 0.3]).astype(float)
    design = np.concatenate([np.repeat(np.eye(6), 4, 0), np.tile(np.eye(4)[:, 1:], (6, 1))], 1)
    model = PoissonRegressor(alpha=0, fit_intercept=False, tol=1e-10, max_iter=10_000)
    model.fit(design, (clicked / shown).ravel(), sample_weight=shown.ravel())
    np.testing.assert_allclose(np.log(fit(shown, clicked)[1:]), model.coef_[6:], atol=1e-3)


def test_places_with_few_clicks_share_a_level() -> None:
    places = np.repeat(np.arange(6), 100)
    clicked = np.concatenate([np.arange(100) < clicks for clicks in (50, 40, 20, 15, 31, 5)])
    assert pool(places, clicked, 20).tolist() == [0, 1, 2, 2, 3, 3]
    assert pool(places, clicked, 2).tolist() == [0, 1, 1, 1, 1, 1]
    with pytest.raises(TrainingError, match="50 clicks are too few to compare places"):
        pool(places[:300], np.arange(300) % 6 == 0, 20)


def test_places_that_share_no_story_are_refused() -> None:
    site = simulate("quality", seed=1, lists=300)
    shown = as_shown(site)
    apart = shown.places  # a story for each place
    with pytest.raises(TrainingError, match=r"9 of 10 places .* can't be compared"):
        compare(shown, LEVELS, np.ones(300, np.bool_), apart)


def test_propensities_rise_only_if_asked_for() -> None:
    rates = np.array([1, 0.4, 0.6, 0.2])
    assert falling(rates, 1e6 * rates) == pytest.approx(np.array([1, 0.5, 0.5, 0.2]))
    shown = as_shown(simulate("random", seed=5, lists=1000))
    places = compare(shown, LEVELS, np.ones(1000, np.bool_), shown.stories)
    free, even = (propensities(places, np.ones(600), monotone) for monotone in (False, True))
    assert (np.diff(free) > 0).any()
    assert (np.diff(even) <= 0).all()


def test_equal_scores_are_shuffled_within_their_list() -> None:
    number, levels = np.repeat([0, 1], 5), np.tile(np.arange(5), 2)
    scores = np.array([1, 2, 3, 4, 5, 0, 0, 0, 0, 0.0])
    found = [reorder(number, levels, scores, seed) for seed in range(20)]
    assert all(one[:5].tolist() == [4, 3, 2, 1, 0] for one in found)
    assert all(sorted(one[5:]) == [0, 1, 2, 3, 4] for one in found)
    assert len({tuple(one[5:]) for one in found}) > 10


def test_pooled_places_are_one_level() -> None:
    site = simulate("quality", seed=1, lists=300)
    shown = as_shown(site)
    levels = np.minimum(LEVELS, 3)
    lists: Judged = judge(shown, levels, np.arange(300) < 100, [np.zeros(3000)], 0)
    assert (lists.width, len(lists.levels), len(lists.list_readers)) == (4, 1000, 100)
    assert np.bincount(lists.orders[0]).tolist() == [100, 100, 100, 700]
