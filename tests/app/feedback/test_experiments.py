"""The statistics of experiments: against hand-made numbers, published ones and simulations."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import insert, select

from app.feedback.experiments import read_report
from app.feedback.figures import ModelFigures
from app.feedback.intervals import Moments, wilson
from app.store.database import Database
from app.store.tables import impressions, outcomes
from tests.support.stores import running
from tests.support.waiting import until


def test_wilson_against_known_numbers() -> None:
    """Newcombe (1998), table I: method 3."""
    for clicks, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ]:
        found = wilson(clicks / trials, trials)
        assert [found.low, found.high] == pytest.approx([low, high], abs=5e-5)


def test_one_story_an_answer_is_wilsons_own_case() -> None:
    moments = Moments()
    moments.add(np.array([1.0] * 15 + [0.0] * 133), np.ones(148))
    assert moments.share() == wilson(15 / 148, 148)


async def report(url: str, answers: list[tuple[list[float], list[int]]]) -> ModelFigures:
    """Of ranked answers: probabilities in the order shown, and the positions clicked."""
    with running(url, rows=10**6) as store:
        for number, (probabilities, _) in enumerate(answers):
            await until(lambda: store.accepts_answers)
            store.keep(str(number), "m", None, probabilities, list(range(len(probabilities))))
    database = Database(url)
    with database.writing() as connection:
        numbers = dict(connection.execute(select(impressions.c.id, impressions.c.number)).all())
        clicks = [
            {"impression": numbers[str(number)], "position": place, "clicked": bool(places)}
            for number, (_, places) in enumerate(answers)
            for place in places or [0]
        ]
        connection.execute(insert(outcomes), [{**click, "learned": 0.0} for click in clicks])
    with database.reading() as connection:
        (found,) = read_report(connection, 0, database.now()).models
    database.close()
    return found


async def test_figures_against_hand_made_numbers(store_url: str) -> None:
    answers = [
        ([0.5, 0.25, 0.25, 0.125], [1]),  # beats 1, ties with 1, loses to 1 of 3: 1.5 / 3
        ([0.5, 0.25], [0]),  # 1
        ([0.75, 0.5, 0.25], [0, 2]),  # of 2 pairs 1: 0.5
        ([0.5, 0.25], []),  # ignored: no AUC
        ([0.5], [0]),  # nothing to compare with
    ]
    found = await report(store_url, answers)
    assert (found.answers, found.stories, found.impressions, found.clicks) == (5, 12, 12, 5)
    assert [(at.impressions, at.clicks) for at in found.by_position][:5] == [
        (5, 3),
        (4, 1),
        (2, 1),
        (1, 0),
        (0, 0),
    ]
    assert found.by_position[0].click_through == wilson(3 / 5, 5)
    assert found.by_position[4].click_through is None
    [today] = found.by_day
    assert (today.impressions, today.clicks) == (12, 5)
    assert today.click_through == found.click_through
    assert abs(datetime.now(UTC).date() - today.day) <= timedelta(days=1)
    assert found.auc_answers == 3
    assert found.auc
    assert found.auc.value == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert found.expected_clicks == pytest.approx(1.125 + 0.75 + 1.5 + 0.75 + 0.5)
    assert found.clicks_per_expected
    assert found.clicks_per_expected.value == pytest.approx(5 / 4.625)
    # By probability: .125 no; .25 ×5, two clicked; .5 ×5, two clicked; .75 clicked.
    bins = [(one.impressions, one.predicted, one.clicked) for one in found.bins]
    assert bins == [(1, 0.125, 0), (5, 0.25, 0.4), (5, 0.5, 0.4), (1, 0.75, 1)]
    assert found.calibration_error == pytest.approx((0.125 + 5 * 0.15 + 5 * 0.1 + 0.25) / 12)


async def test_auc_is_that_of_all_pairs(store_url: str) -> None:
    random = np.random.default_rng(0)
    answers, expected = [], []
    for _ in range(300):
        size = int(random.integers(1, 30))
        scores = np.sort(random.integers(0, 8, size) / 8)[::-1]
        places = np.flatnonzero(random.random(size) < 0.3)
        answers.append(([float(one) for one in scores], [int(place) for place in places]))
        clicked, other = scores[places], np.delete(scores, places)
        if len(clicked) and len(other):
            gap = np.subtract.outer(clicked, other)
            expected.append(((gap > 0) + (gap == 0) / 2).mean())
    found = await report(store_url, answers)
    assert found.auc
    assert found.auc.value == pytest.approx(np.mean(expected))
    assert found.auc_answers == len(expected)


async def test_a_calibrated_model_is_called_so(store_url: str) -> None:
    random = np.random.default_rng(1)
    answers = []
    for _ in range(4000):
        scores = np.sort(random.beta(1, 15, 10))[::-1]
        places = np.flatnonzero(random.random(10) < scores)
        answers.append(([float(one) for one in scores], [int(place) for place in places]))
    found = await report(store_url, answers)
    assert found.clicks_per_expected
    assert found.calibration_error
    assert found.clicks_per_expected.low < 1 < found.clicks_per_expected.high
    assert found.clicks_per_expected.high - found.clicks_per_expected.low < 0.1
    assert found.calibration_error < 0.005
    assert [one.impressions for one in found.bins] == pytest.approx([4000] * 10, rel=0.1)


def test_intervals_cover_what_they_say() -> None:
    """2000 experiments of 200 answers, whose readers differ in how much they click."""
    random = np.random.default_rng(2)
    click_through, auc, ratio = 0.08, 0.7, 1.25
    covered = np.zeros(3)
    for _ in range(2000):
        share = random.beta(2, 23, 200)  # a reader's own, on average 0.08
        shown = random.integers(5, 15, 200)
        clicks = random.binomial(shown, share)
        shares, pairs, rates = Moments(), Moments(), Moments()
        shares.add(clicks.astype(float), shown.astype(float))
        pairs.add(random.beta(1.4, 0.6, 200).astype(np.float64), np.ones(200))
        rates.add(clicks.astype(float), shown.astype(float) * (click_through / ratio))
        found = shares.share(), pairs.share(), rates.rate()
        for place, (one, truth) in enumerate(zip(found, (click_through, auc, ratio), strict=True)):
            assert one
            covered[place] += one.low <= truth <= one.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_intervals_of_little() -> None:
    empty, lone, ignored = Moments(), Moments(), Moments()
    lone.add(np.array([1.0]), np.array([50.0]))
    ignored.add(np.zeros(10), np.full(10, 0.2))
    assert empty.share() is None
    assert empty.rate() is None
    only = lone.share()
    assert only
    assert only.low < 0.01 < 0.5 < only.high  # as uncertain as one trial
    none = ignored.rate()
    assert none
    assert [none.value, none.low, none.high] == pytest.approx([0, 0, 3.689 / 2], abs=1e-3)
