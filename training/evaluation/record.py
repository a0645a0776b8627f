"""evaluation.json: what evaluate measures and report draws."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.scoring.profile import Profile
from training.errors import TrainingError
from training.evaluation.options import Recorded
from training.folders import write_whole
from training.provenance import Hardware

RESULT_FILE = "evaluation.json"
SUMMED_UP = ("auc", "mrr", "ndcg_at_5", "ndcg_at_10", "log_loss", "pair_accuracy")
"""Figures in the line that is printed for each model."""


class Record(BaseModel):
    """A part of evaluation.json. Fields that a file has beyond these are ignored."""

    model_config = ConfigDict(frozen=True)


class DataFacts(Record):
    """What was measured on. data_hash: the prepared set's (its manifest.json)."""

    split: str
    data_hash: str
    impressions: int
    ranked: int
    """Impressions with clicks and non-clicks, on which the ranking figures are means."""
    only_clicks: int
    only_non_clicks: int
    candidates: int
    clicks: int
    """Clicked candidates."""
    pairs: int
    """A click and a non-click of one impression: one pair from each that has both."""
    text_pairs: int
    """How many of the pairs were asked for in text as well."""


class RunFacts(Record):
    """When, by what code and where it was measured."""

    time: str
    """When the command began: ISO 8601, in UTC."""
    commit: str | None
    """The code's git commit, with -dirty where files differ; None outside a repository."""
    versions: dict[str, str]
    """Of libraries, by name."""
    hardware: Hardware


class Figure(Record):
    """A figure with its 95 % interval over impressions; None where there is too little data."""

    value: float | None
    low: float | None
    high: float | None


class Scoring(Record):
    """The time that scoring all impressions took, all candidates of a reader together."""

    seconds: float
    candidates_per_s: float


class Speed(Record):
    """One timing, of samples with one candidate each.

    task: "score", or "text" for an answer in words. size: samples of a batch, or calls at once. A
    latency is that of a whole call, in milliseconds.
    """

    task: str
    mode: Literal["batch", "concurrent calls"]
    size: int
    samples_per_s: float
    latency_p50_ms: float
    latency_p95_ms: float
    calls: int


class Roc(Record):
    """The ROC curve over all candidates together, 0 to 1, and the area under it."""

    false_positive_rate: list[float]
    true_positive_rate: list[float]
    area: float


class CalibrationBin(Record):
    """Candidates of similar probability: how many, their mean probability, the share clicked."""

    count: int
    predicted: float
    observed: float


class Histogram(Record):
    """How scores are spread. log_odds_edges: natural log-odds, one more than there are bins.
    clicked, not_clicked: the share of the clicks and of the non-clicks in each bin, 0 to 1."""

    log_odds_edges: list[float]
    clicked: list[float]
    not_clicked: list[float]


class Mistake(Record):
    """A candidate that was scored badly. impression, story: ids in the data set. history: titles of
    the reader's last clicks, newest last; history_length: of all their clicks."""

    impression: str
    story: str
    title: str
    category: str | None
    probability: float
    history: list[str]
    history_length: int


class Mistakes(Record):
    """The clicks given the lowest probabilities, and the non-clicks given the highest."""

    missed_clicks: list[Mistake]
    false_hopes: list[Mistake]


class TextCount(Record):
    """An answer in words, and how often it was given."""

    text: str
    count: int


class RankerLine(Record):
    """One way to order. differences: from the first line's figures, on the same impressions. ece:
    None for scores that are no probabilities."""

    name: str
    figures: dict[str, Figure]
    differences: dict[str, Figure]
    ece: float | None


class RankerResult(Record):
    """A model's ranker on the same impressions; see training.evaluation.ranker."""

    refused: str | None
    """Why it was not measured; then all else is empty."""
    notes: list[str] = []
    """What to know about the figures."""
    lines: list[RankerLine] = []
    clicks: dict[str, int] = {}
    """How many clicks the figures hold, by how often their story had been shown before."""
    text_adds: dict[str, Figure] = {}
    """What the language model adds to the trees: the figures with it minus those without."""


class Order(Record):
    """How well a model orders as it is served: by its ranker if that was measured, or else by the
    language model alone."""

    by_ranker: bool
    figures: dict[str, Figure]
    differences: dict[str, Figure]
    """From the first model's order, on the same impressions; empty for the first model."""
    ece: float


class ModelResult(Record):
    """One model, measured."""

    folder: str | None
    """The model's, as the command line names it; None where only the service knows it."""
    backend: str
    name: str
    profile: Profile | None
    """How its prompts are built; None where only the service knows that."""
    figures: dict[str, Figure]
    """By name: see training.evaluation.quality.figures. Shares are 0 to 1; log_loss is in nats."""
    differences: dict[str, Figure]
    """This model's figures minus the first model's, on the same impressions."""
    scoring: Scoring
    speed: list[Speed]
    roc: Roc
    calibration: list[CalibrationBin]
    ece: float
    """Expected calibration error, 0 to 1."""
    histogram: Histogram
    errors: Mistakes
    texts: list[TextCount]
    """The commonest answers in words."""
    ranker: RankerResult | None = Field(default=None, exclude_if=lambda found: found is None)
    """None, and not in the file, for a model without a ranker."""
    order: Order | None = Field(default=None, exclude_if=lambda found: found is None)
    """None, and not in the file, unless this model's ranker or the first one's was measured."""

    def summary(self) -> str:
        """One line for people."""
        parts = [
            f"{name} {figure.value:.4f}" + interval_text(figure)
            for name, figure in self.figures.items()
            if name in SUMMED_UP
        ]
        return f"{self.name}: " + ", ".join([*parts, f"ece {self.ece:.4f}"])


def interval_text(figure: Figure) -> str:
    """Such as " (0.4593 to 0.6153)"; nothing for a figure without an interval."""
    return "" if figure.low is None else f" ({figure.low:.4f} to {figure.high:.4f})"


class Evaluation(Record):
    """The whole file. options: the command's arguments by name, those not given left out."""

    data: DataFacts
    options: dict[str, Recorded]
    run: RunFacts
    models: list[ModelResult]

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """Raises TrainingError for a folder that evaluate did not write."""
        file = folder / RESULT_FILE
        try:
            found = cls.model_validate_json(file.read_bytes())
        except OSError:
            raise TrainingError(
                f"{file} does not exist: write it with python -m training evaluate"
            ) from None
        except ValueError:
            raise TrainingError(f"{file} is not what evaluate writes: run evaluate again") from None
        if not found.models:
            raise TrainingError(f"{file} holds no model: run evaluate again")
        return found

    def write(self, folder: Path) -> None:
        """Write evaluation.json into `folder`, whole. Raises TrainingError."""
        known = self.model_dump(mode="json")
        text = json.dumps(known, indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(folder / RESULT_FILE, text + "\n")
