"""The wire types of /experiments. The client has them too, so they import nothing heavy."""

from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel, Field

MIN_ANSWERS = 200
MIN_CLICKS = 20
"""Below these, for either model, no anytime-valid interval is given: it rests on the central limit
theorem. For the AUC the second bounds the sum of the answers' AUC."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Range(BaseModel):
    low: float
    high: float


class Difference(BaseModel):
    """A figure of one model minus that of another."""

    value: float
    fixed: Range = Field(
        description="95 % interval for one look, at a time set before the experiment began. Of"
        " those who look again and again and stop at the first difference, far more than 5 % are"
        " wrong."
    )
    anytime: Range | None = Field(
        description="Anytime-valid 95 % interval: look whenever you like, and stop when it does not"
        " contain 0. It holds for all looks together if all of them count answers from the same"
        f" start (`since`). Null until each model has {MIN_ANSWERS} answers with feedback and"
        f" {MIN_CLICKS} clicks."
    )
    more: int | None = Field(
        description="About how many more of both models together are needed until `anytime` does"
        " not contain 0, if the difference and the split stay as they are: impressions for the"
        " click-through, answers for the AUC. 0 if it does not contain 0 now. Null if there is no"
        " difference, or too little to tell: early in an experiment it says little."
    )


class PositionFigures(BaseModel):
    position: str = Field(
        description='The position in the order shown, "1" to "10", or "11+" for all later ones.'
    )
    impressions: int
    clicks: int
    click_through: Interval | None


class DayFigures(BaseModel):
    day: date = Field(description="In UTC, when the answers were given.")
    impressions: int
    clicks: int
    click_through: Interval | None


class CalibrationBin(BaseModel):
    """Impressions with similar predicted probabilities."""

    impressions: int
    predicted: float = Field(description="Mean predicted probability.")
    clicked: float = Field(description="Share of the impressions that were clicked.")


class ModelFigures(BaseModel):
    """Figures are null where there is no data for them."""

    model: str
    alias: str | None = Field(
        description="The alias that requests named, or null if they named the model itself."
    )
    answers: int = Field(description="Answers kept, with or without feedback.")
    stories: int = Field(description="Stories shown in these answers.")
    answers_with_feedback: int
    impressions: int = Field(
        description="For /rank, all stories of answers with any feedback. For /predict and"
        " /predict/batch, the stories with feedback."
    )
    clicks: int
    click_through: Interval | None
    by_position: list[PositionFigures] = Field(description="Figures of answers of /rank only.")
    by_day: list[DayFigures] = Field(description="Days with impressions, the oldest first.")
    auc_answers: int = Field(
        description="Answers of /rank that have both clicked and unclicked stories."
    )
    auc: Interval | None = Field(description="Mean AUC of these answers.")
    expected_clicks: float = Field(description="Sum of the impressions' predicted probabilities.")
    clicks_per_expected: Interval | None = Field(
        description="Clicks divided by expected clicks. 1 means calibrated; above 1, the model"
        " predicts too few clicks."
    )
    calibration_error: float | None = Field(
        description="Mean over all impressions of |predicted - clicked| of their bin. With few"
        " impressions it is above 0 even for a calibrated model."
    )
    bins: list[CalibrationBin] = Field(
        description="Bins by predicted probability, with about equally many impressions in each."
    )


class ModelDifference(BaseModel):
    """How two models of one alias differ: figures of `model` minus those of `other`."""

    alias: str
    model: str
    other: str
    click_through: Difference | None
    auc: Difference | None


class ExperimentsResponse(BaseModel):
    models: list[ModelFigures]
    differences: list[ModelDifference] = Field(
        description="Each pair of models of one alias, whose readers are split at random."
    )
