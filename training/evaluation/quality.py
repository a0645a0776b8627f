"""What every model is asked, and the figures, curves and worst errors of one model's answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from sklearn.metrics import roc_auc_score

from app.scoring.calibration import NO, UNKNOWN, YES
from training import metrics
from training.data.prepared import Impression
from training.errors import TrainingError
from training.evaluation.backends.base import Answers
from training.evaluation.record import CalibrationBin, Histogram, Mistake, Mistakes, Roc
from training.metrics import Flags, Floats, Pair, Ratio

MIN_SURE_MASS = 0.95
"""From this label mass on, a candidate counts in the figure `sure_mass`."""
HISTOGRAM_BINS = 40
ERRORS_SHOWN = 10
"""How many missed clicks, and how many false hopes."""
HISTORY_SHOWN = 5
"""How many of the reader's last clicks are shown with an error."""


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """The same for all models. clicked: for each impression, which candidates were, [candidates].
    pairs: a click and a non-click of each impression that has both. text_pairs: those of the pairs
    that are asked for in text as well."""

    impressions: list[Impression]
    clicked: list[Flags]
    pairs: list[Pair]
    text_pairs: list[Pair]

    def text_samples(self) -> list[Impression]:
        """Impressions of one candidate each: a click, a non-click, a click, …"""
        return [
            single(self.impressions[pair.impression], place)
            for pair in self.text_pairs
            for place in (pair.click, pair.other)
        ]

    def counts(self) -> dict[str, int]:
        """Numbers by the names of fields of training.evaluation.record.DataFacts."""
        return {
            "impressions": len(self.clicked),
            "ranked": sum(metrics.is_ranked(flags) for flags in self.clicked),
            "only_clicks": sum(bool(flags.all()) for flags in self.clicked),
            "only_non_clicks": sum(not flags.any() for flags in self.clicked),
            "candidates": sum(len(flags) for flags in self.clicked),
            "clicks": sum(int(flags.sum()) for flags in self.clicked),
            "pairs": len(self.pairs),
            "text_pairs": len(self.text_pairs),
        }


def single(impression: Impression, place: int) -> Impression:
    """The impression with one of its candidates."""
    return replace(
        impression,
        candidates=[impression.candidates[place]],
        candidate_ids=[impression.candidate_ids[place]],
        clicked=None if impression.clicked is None else [impression.clicked[place]],
    )


def make_questions(impressions: list[Impression], text_pairs: int, seed: int) -> Questions:
    """Draw the pairs by `seed`. text_pairs: how many of them are asked for in text, at most.

    Raises TrainingError if there are no labels, or no impression has clicks and non-clicks.
    """
    if any(impression.clicked is None for impression in impressions):
        raise TrainingError("this split has no labels: choose one that has them with --split")
    clicked = [np.array(impression.clicked, dtype=np.bool_) for impression in impressions]
    pairs = metrics.draw_pairs(clicked, seed)
    if not pairs:
        raise TrainingError(
            f"none of the {len(clicked)} impressions has both clicks and non-clicks: nothing can "
            "be measured on them; raise --limit"
        )
    random = np.random.default_rng(seed)
    chosen = random.choice(len(pairs), min(text_pairs, len(pairs)), replace=False)
    return Questions(impressions, clicked, pairs, [pairs[i] for i in sorted(chosen)])


def parse_text(text: str) -> str:
    """The label that an answer in words means, by the original project's rule."""
    lower = text.lower()
    return YES if "yes" in lower else NO if "no" in lower else UNKNOWN


def figures(
    questions: Questions, answers: Sequence[Answers], texts: Sequence[str]
) -> dict[str, Ratio]:
    """All figures that have an interval, by name. texts: one for each text sample; without any, the
    figures of text are left out.

    auc, mrr, ndcg_at_5, ndcg_at_10: means over impressions with clicks and non-clicks. log_loss:
    mean over candidates, in nats. pair_accuracy: how often the label is right, on pairs.
    pair_order: how often the pair's click scores higher. unknown: the share of candidates labelled
    Unknown. sure_mass: the share whose two labels hold MIN_SURE_MASS or more. text_accuracy,
    text_unknown, text_agreement: see text_figures.
    """
    probability = [answer.probability for answer in answers]
    found = {
        **metrics.ranking(questions.clicked, probability),
        "log_loss": metrics.log_loss(questions.clicked, probability),
        "pair_accuracy": label_accuracy(questions, answers),
        "pair_order": pair_order(questions, probability),
        "unknown": metrics.share([np.array(a.labels) == UNKNOWN for a in answers]),
        "sure_mass": metrics.share([a.mass >= MIN_SURE_MASS for a in answers]),
    }
    return {**found, **text_figures(questions, answers, texts)} if texts else found


def label_accuracy(questions: Questions, answers: Sequence[Answers]) -> Ratio:
    """The share of right labels among the pairs' candidates; Unknown is wrong."""
    right = [
        (answers[pair.impression].labels[pair.click] == YES)
        + (answers[pair.impression].labels[pair.other] == NO)
        for pair in questions.pairs
    ]
    return metrics.over_pairs(questions.pairs, right, 2, len(answers))


def pair_order(questions: Questions, probability: Sequence[Floats]) -> Ratio:
    """How often a pair's click is the more probable one, without a threshold; a tie counts half."""
    right = []
    for pair in questions.pairs:
        row = probability[pair.impression]
        right.append(0.5 + 0.5 * float(np.sign(row[pair.click] - row[pair.other])))
    return metrics.over_pairs(questions.pairs, right, 1, len(probability))


def text_figures(
    questions: Questions, answers: Sequence[Answers], texts: Sequence[str]
) -> dict[str, Ratio]:
    """Of the labels that texts mean: how often they are right, are Unknown, and agree with the
    scores' labels."""
    parsed = [parse_text(text) for text in texts]
    right, unknown, agree = [], [], []
    for number, pair in enumerate(questions.text_pairs):
        click, other = parsed[2 * number : 2 * number + 2]
        labels = answers[pair.impression].labels
        right.append((click == YES) + (other == NO))
        unknown.append((click == UNKNOWN) + (other == UNKNOWN))
        agree.append((click == labels[pair.click]) + (other == labels[pair.other]))
    named = {"text_accuracy": right, "text_unknown": unknown, "text_agreement": agree}
    return {
        name: metrics.over_pairs(questions.text_pairs, points, 2, len(answers))
        for name, points in named.items()
    }


def together(questions: Questions, answers: Sequence[Answers]) -> tuple[Flags, Floats]:
    """Clicked or not, and the probability, of all candidates, each [candidates]."""
    probability = np.concatenate([answer.probability for answer in answers])
    return np.concatenate(questions.clicked), probability


def roc(questions: Questions, answers: Sequence[Answers]) -> Roc:
    """The ROC curve over all candidates together."""
    clicked, probability = together(questions, answers)
    false, true = metrics.roc(clicked, probability)
    return Roc(
        false_positive_rate=false.tolist(),
        true_positive_rate=true.tolist(),
        area=float(roc_auc_score(clicked, probability)),
    )


def calibration(questions: Questions, answers: Sequence[Answers]) -> list[CalibrationBin]:
    """The calibration curve over all candidates together."""
    bins = metrics.calibration_bins(*together(questions, answers))
    return [CalibrationBin(**asdict(bin)) for bin in bins]


def calibration_error(questions: Questions, answers: Sequence[Answers]) -> float:
    """The expected calibration error over all candidates together."""
    bins = metrics.calibration_bins(*together(questions, answers))
    return metrics.expected_calibration_error(bins)


def histogram(questions: Questions, answers: Sequence[Answers]) -> Histogram:
    """The share of clicks and of non-clicks in each bin of log-odds.

    The bins reach over all scores but the outermost 0.2 % on each side, which are counted in the
    outermost bins.
    """
    clicked, probability = together(questions, answers)
    tiny = np.finfo(np.float64).eps
    p = np.clip(probability, tiny, 1 - tiny)
    log_odds = np.log(p / (1 - p))
    low, high = np.quantile(log_odds, [0.002, 0.998])
    edges = np.linspace(low - 0.01, high + 0.01, HISTOGRAM_BINS + 1)
    place = np.clip(np.searchsorted(edges, log_odds) - 1, 0, HISTOGRAM_BINS - 1)

    def shares(chosen: Flags) -> list[float]:
        counts = np.bincount(place[chosen], minlength=HISTOGRAM_BINS)
        found: list[float] = (counts / max(counts.sum(), 1)).tolist()
        return found

    return Histogram(
        log_odds_edges=edges.tolist(), clicked=shares(clicked), not_clicked=shares(~clicked)
    )


def worst_errors(questions: Questions, answers: Sequence[Answers]) -> Mistakes:
    """The clicks thought least probable, and the non-clicks thought most probable."""
    places = [
        (number, place) for number, row in enumerate(answers) for place in range(len(row.labels))
    ]
    clicked, probability = together(questions, answers)
    order = np.argsort(probability, kind="stable")
    missed = [places[i] for i in order[clicked[order]][:ERRORS_SHOWN]]
    hoped = [places[i] for i in order[~clicked[order]][::-1][:ERRORS_SHOWN]]
    return Mistakes(
        missed_clicks=[describe(questions, answers, *place) for place in missed],
        false_hopes=[describe(questions, answers, *place) for place in hoped],
    )


def describe(questions: Questions, answers: Sequence[Answers], number: int, place: int) -> Mistake:
    """A candidate, by its impression's number and its place in it."""
    impression = questions.impressions[number]
    return Mistake(
        impression=impression.id,
        story=impression.candidate_ids[place],
        title=impression.candidates[place].title,
        category=impression.candidates[place].category,
        probability=float(answers[number].probability[place]),
        history=[story.title for story in impression.reader.history[-HISTORY_SHOWN:]],
        history_length=len(impression.reader.history),
    )
