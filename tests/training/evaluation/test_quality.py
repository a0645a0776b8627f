"""Figures that follow from made-up answers, worked out by hand."""

import numpy as np
import pytest

from app.scoring.profile import Calibration, Profile
from app.scoring.wording import Reader, Story
from training.data.prepared import Impression
from training.errors import TrainingError
from training.evaluation import quality
from training.evaluation.backends.base import Answers, judge
from training.evaluation.quality import Questions, make_questions


def shown(name: str, clicked: list[bool] | None, size: int | None = None) -> Impression:
    titles = [f"{name} story {number}" for number in range(size or len(clicked or []))]
    return Impression(
        id=name,
        user="U1",
        reader=Reader([Story(f"read {number}") for number in range(7)]),
        candidates=[Story(title, "news") for title in titles],
        candidate_ids=[f"{name}-{number}" for number in range(len(titles))],
        clicked=clicked,
    )


def says(probability: list[float], labels: str, mass: float = 1.0) -> Answers:
    """labels: a letter each, of Yes., No., Unknown."""
    words = {"Y": "Yes.", "N": "No.", "U": "Unknown"}
    return Answers(
        np.array(probability), np.full(len(labels), mass), [words[letter] for letter in labels]
    )


@pytest.fixture
def questions() -> Questions:
    """Three impressions, of which the last has no click; a pair in each of the others."""
    return make_questions(
        [shown("a", [True, False]), shown("b", [False, True]), shown("c", [False])], 10, seed=0
    )


ANSWERS = [says([0.9, 0.2], "YN"), says([0.6, 0.6], "YU", mass=0.5), says([0.1], "N")]


def test_figures_by_hand(questions: Questions) -> None:
    found = quality.figures(questions, ANSWERS, ["Yes.", "No", "I say yes", "Perhaps"])
    values = {name: figure.value for name, figure in found.items()}
    assert values["auc"] == pytest.approx((1 + 0.5) / 2)
    assert values["pair_accuracy"] == 2 / 4
    assert values["pair_order"] == (1 + 0.5) / 2
    assert values["unknown"] == 1 / 5
    assert values["sure_mass"] == 3 / 5
    # Text: click, non-click; a: right, right; b: right, Unknown. Labels of b are Unknown and Yes.
    assert values["text_accuracy"] == 3 / 4
    assert values["text_unknown"] == 1 / 4
    assert values["text_agreement"] == 2 / 4


def test_without_text_there_are_no_text_figures(questions: Questions) -> None:
    assert not [name for name in quality.figures(questions, ANSWERS, []) if "text" in name]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes.", "Yes."),
        ("YES", "Yes."),
        (" no", "No."),
        ("No. Yes.", "Yes."),  # as the original: yes is looked for first
        ("I do not know", "No."),
        ("", "Unknown"),
        ("The user", "Unknown"),
    ],
)
def test_text_is_parsed_as_the_original_does(text: str, label: str) -> None:
    assert quality.parse_text(text) == label


def test_text_samples_are_the_pairs_candidates(questions: Questions) -> None:
    samples = questions.text_samples()
    assert [sample.candidate_ids for sample in samples] == [["a-0"], ["a-1"], ["b-1"], ["b-0"]]
    assert [sample.clicked for sample in samples] == [[True], [False], [True], [False]]


def test_text_pairs_are_some_of_the_pairs() -> None:
    impressions = [shown(f"i{number}", [True, False, False]) for number in range(30)]
    found = make_questions(impressions, 5, seed=1)
    assert len(found.pairs) == 30
    assert len(found.text_pairs) == 5
    assert all(pair in found.pairs for pair in found.text_pairs)
    assert found.text_pairs == make_questions(impressions, 5, seed=1).text_pairs


def test_counts(questions: Questions) -> None:
    assert questions.counts() == {
        "impressions": 3,
        "ranked": 2,
        "only_clicks": 0,
        "only_non_clicks": 1,
        "candidates": 5,
        "clicks": 2,
        "pairs": 2,
        "text_pairs": 2,
    }


def test_no_labels() -> None:
    with pytest.raises(TrainingError, match="no labels"):
        make_questions([shown("a", None, size=2)], 0, seed=0)


def test_nothing_to_rank() -> None:
    with pytest.raises(TrainingError, match="none of the 1 impressions has both"):
        make_questions([shown("a", [True, True])], 0, seed=0)


def test_worst_errors_are_the_surest_wrong_ones(questions: Questions) -> None:
    found = quality.worst_errors(questions, ANSWERS)
    assert [error.story for error in found.missed_clicks] == ["b-1", "a-0"]
    assert [error.story for error in found.false_hopes] == ["b-0", "a-1", "c-0"]
    first = found.missed_clicks[0]
    assert (first.title, first.probability) == ("b story 1", 0.6)
    assert first.history == [f"read {number}" for number in range(2, 7)]
    assert first.history_length == 7


def test_histograms_count_every_candidate_once(questions: Questions) -> None:
    extreme = [says([0.0, 1.0], "NY"), says([0.5, 1e-9], "NN"), says([1.0], "Y")]
    found = quality.histogram(questions, extreme)
    assert sum(found.clicked) == pytest.approx(1)
    assert sum(found.not_clicked) == pytest.approx(1)


def test_judging_follows_the_profile() -> None:
    profile = Profile(
        calibration=Calibration(slope=2.0, intercept=-1.0), threshold=0.6, min_label_mass=0.2
    )
    logs = np.log([[0.6, 0.3], [0.3, 0.6], [0.05, 0.05]])
    found = judge(logs[:, 0], logs[:, 1], profile)
    odds = np.exp(-1.0) * np.array([4, 1 / 4, 1])  # e^intercept · (yes / no)^slope
    assert found.probability == pytest.approx(odds / (1 + odds))
    assert found.mass == pytest.approx([0.9, 0.9, 0.1])
    assert found.labels == ["No.", "No.", "Unknown"]
