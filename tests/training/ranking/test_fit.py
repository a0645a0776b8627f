"""What the trees learn of impressions whose scores are not all known."""

import numpy as np
import pytest

from app.ranker.features import NAMES, TEXT
from training import metrics
from training.errors import TrainingError
from training.ranking.fit import KINDS, FitOptions, Fitted, Kind, best_known, fit, halves
from training.ranking.rows import TOWER, Rows

SIZE = 10
RATE = NAMES.index("rate")


def invented(lists: int, seed: int) -> Rows:
    """Clicks depend on the rate and on what the language model says; one list each second."""
    random = np.random.default_rng(seed)
    matrix = np.zeros((lists * SIZE, len(NAMES)), np.float32)
    matrix[:, [RATE, TEXT]] = random.normal(size=(len(matrix), 2))
    odds = np.exp(1.2 * matrix[:, RATE] + 0.8 * matrix[:, TEXT] - 2.5)
    clicked = random.random(len(matrix)) < odds / (1 + odds)
    times = np.arange(lists).astype("datetime64[s]").astype("datetime64[ms]")
    sizes = np.full(lists, SIZE)
    return Rows(
        matrix, clicked, np.zeros(len(matrix)), sizes, times, [str(n) for n in range(lists)]
    )


def unasked(rows: Rows, lists: slice) -> Rows:
    """The same, if the language model was not asked about some of the lists."""
    rows.matrix.reshape(len(rows.sizes), SIZE, -1)[lists, :, TEXT] = np.nan
    return rows


def auc(fitted: Fitted, rows: Rows) -> float:
    scores = rows.split(fitted.log_odds(rows.matrix))
    return metrics.ranking(rows.split(rows.clicked), scores)["auc"].value  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS[1::2], ids=str)
def test_lists_that_the_language_model_was_not_asked_about_teach_too(kind: Kind) -> None:
    rows, test = unasked(invented(1500, 0), slice(1400)), invented(600, 1)
    asked = rows.take(best_known(rows))
    assert len(asked.sizes) == 100
    few, all_of_them = (fit(part, kind, FitOptions()) for part in (asked, rows))
    assert auc(all_of_them, test) > auc(few, test) + 0.01
    unknown = unasked(invented(600, 1), slice(None))
    assert auc(all_of_them, test) > auc(all_of_them, unknown) + 0.02  # it listens to the text


def test_kinds_are_measured_on_lists_of_which_most_is_known() -> None:
    rows = unasked(invented(400, 0), slice(300))
    early, late = halves(rows, 0.25)
    assert (len(early.sizes), len(late.sizes)) == (375, 25)
    early, late = halves(unasked(rows, slice(None)), 0.25)
    assert (len(early.sizes), len(late.sizes)) == (300, 100)
    rows.matrix[:, TOWER] = np.nan
    rows.matrix[: 40 * SIZE, TOWER] = 1
    early, late = halves(rows, 0.25)
    assert (len(early.sizes), len(late.sizes)) == (30, 10)
    rows.clicked[30 * SIZE : 40 * SIZE] = False
    with pytest.raises(TrainingError, match="too few impressions"):
        halves(rows, 0.25)
