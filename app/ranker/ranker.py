"""A fitted ranker: LightGBM's trees (`ranker.txt`) with their description (`ranker.json`).

Both lie beside an adapter's profile.json and travel with it. A second model without the language
model's score (`first_stage.txt`) judges candidates before the language model is asked.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import lightgbm
import numpy as np
from lightgbm.basic import LightGBMError
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.ranker.features import FEATURES, GROUPS, NAMES, VERSION, Floats, Group

DESCRIPTION_FILE = "ranker.json"
RANKER_FILE = "ranker.txt"
FIRST_STAGE_FILE = "first_stage.txt"


class RankerError(ValueError):
    """A ranker's files that can't be used; the message names the file and what is wrong."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Model(Frozen):
    """One file of trees. log-odds = slope · (the trees' raw score) + intercept (Platt 1999).

    sha256: of the file, since LightGBM can crash the process on trees that were changed or cut.
    """

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    slope: float = Field(gt=0)
    intercept: float


class Spread(Frozen):
    """A feature's values in training, to notice when serving sees others."""

    mean: float
    deviation: float
    missing: float = Field(ge=0, le=1, description="The share of candidates without it.")


class Description(Frozen):
    """The content of ranker.json.

    version, features: of app.ranker.features, when it was fitted. encoder: the sentence encoder's
    name, None without one. tower: whether the tower's score is among the features. objective:
    LightGBM's. half_life_s, recent_half_life_s: of the live figures in training; None: never.
    spreads: by feature. data_hash: of the prepared data. learned_until: the time, in the log's own
    zone, of the latest impression that was learned from; None in older files. figures: what was
    measured, by name.
    """

    version: int
    features: tuple[str, ...]
    encoder: str | None
    tower: bool
    objective: str
    half_life_s: float | None
    recent_half_life_s: float | None
    ranker: Model
    first_stage: Model
    spreads: dict[str, Spread] = {}
    data_hash: str | None = None
    learned_until: datetime | None = None
    figures: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Trees:
    """One model, ready to predict; see Model."""

    booster: lightgbm.Booster
    slope: float
    intercept: float

    def log_odds(self, matrix: Floats | NDArray[np.float32]) -> Floats:
        """Calibrated log-odds of a click, [candidates]; matrix: [candidates, features]."""
        if not len(matrix):
            return np.zeros(0)
        raw = self.booster.predict(matrix, raw_score=True, num_threads=1)
        return self.slope * np.asarray(raw, np.float64) + self.intercept

    def contributions(self, matrix: Floats) -> tuple[dict[Group, Floats], float]:
        """What each group of features adds to the log-odds of each candidate, [candidates], and
        what is there without any; together they are the log-odds (SHAP values: Lundberg 2017)."""
        each = np.asarray(
            self.booster.predict(matrix, pred_contrib=True, num_threads=1), np.float64
        ).reshape(len(matrix), len(NAMES) + 1)
        own = np.array([FEATURES[name] for name in NAMES])
        groups: dict[Group, Floats] = {
            group: self.slope * each[:, :-1][:, own == group].sum(1) for group in GROUPS
        }
        base = float(each[0, -1]) if len(each) else 0.0
        return groups, self.slope * base + self.intercept


@dataclass(frozen=True, slots=True)
class Ranker:
    """A ranker that is ready to serve. `full` knows the language model's score; `first_stage` does
    not, and serves where the language model was not asked."""

    description: Description
    full: Trees
    first_stage: Trees

    def probability(self, matrix: Floats) -> Floats:
        """The calibrated probability of a click, [candidates]."""
        return probability(self.full.log_odds(matrix))

    def first_probability(self, matrix: Floats) -> Floats:
        """The same, as the first stage judges without the language model."""
        return probability(self.first_stage.log_odds(matrix))


def probability(log_odds: Floats) -> Floats:
    """1 / (1 + e^-x) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(log_odds / 2)), np.float64)


def load_ranker(folder: Path) -> Ranker | None:
    """The ranker in an adapter's or model's folder; None where it has none. Raises RankerError."""
    file = folder / DESCRIPTION_FILE
    if not file.exists():
        for left in (RANKER_FILE, FIRST_STAGE_FILE):
            if (folder / left).exists():
                raise RankerError(f"{folder / left} lies there without its {DESCRIPTION_FILE}")
        return None
    description = read_description(file)
    return Ranker(
        description,
        read_trees(folder / RANKER_FILE, description.ranker),
        read_trees(folder / FIRST_STAGE_FILE, description.first_stage),
    )


def read_description(file: Path) -> Description:
    """Raises RankerError for an invalid file, and for one of other features than this program's."""
    try:
        found = Description.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise RankerError(f"{file}: {where}: {first['msg']}") from None
    except OSError as error:
        raise RankerError(f"{file} can't be read: {error.strerror}") from None
    if found.version != VERSION or found.features != NAMES:
        raise RankerError(
            f"{file}: fitted on version {found.version} of the features, this program computes"
            f" version {VERSION}: fit it again with python -m training rank"
        )
    return found


def read_trees(file: Path, model: Model) -> Trees:
    """Raises RankerError for a file that is missing, changed, or of other features."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RankerError(f"{file} can't be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != model.sha256:
        raise RankerError(f"{file} is not the file that {DESCRIPTION_FILE} describes (its SHA-256)")
    try:
        booster = lightgbm.Booster(model_str=data.decode())
    except (LightGBMError, ValueError) as error:
        raise RankerError(f"{file} can't be read: {error}") from None
    if tuple(booster.feature_name()) != NAMES:
        raise RankerError(f"{file} holds trees on other features than {', '.join(NAMES)}")
    return Trees(booster, model.slope, model.intercept)


def describe_trees(file: Path, slope: float, intercept: float) -> Model:
    """What ranker.json says of a file of trees."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Model(sha256=digest, slope=slope, intercept=intercept)


def spreads(matrix: Floats | NDArray[np.float32]) -> dict[str, Spread]:
    """Each feature's mean, standard deviation and share of missing values. matrix: [candidates,
    features]."""
    found = {}
    for name, column in zip(NAMES, matrix.T, strict=True):
        given: Floats = column[~np.isnan(column)].astype(np.float64)
        found[name] = Spread(
            mean=float(given.mean()) if len(given) else 0.0,
            deviation=float(given.std()) if len(given) else 0.0,
            missing=float(1 - len(given) / len(column)) if len(column) else 1.0,
        )
    return found
