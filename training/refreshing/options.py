"""What `refresh` is asked, and its file: where it works, what it learns from, what it demands."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from training.errors import TrainingError
from training.tuning.config import load_yaml

Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")]


@dataclass(frozen=True)
class RefreshOptions:
    """config: a YAML file, see Plan. out: the folder that holds a folder for each refresh. at: take
    this for now, in seconds since 1970. until: "gate" to load nothing. wait: for the experiment's
    end. abandon: take back what an unfinished refresh has changed, and end it."""

    config: Path
    out: Path
    at: float | None
    until: Literal["gate"] | None
    wait: bool
    abandon: bool


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Gate(Part):
    """What the new model must show on the newest lists before a reader meets it."""

    margin: NonNegativeFloat = 0.0
    """By how much its AUC must be above the served model's; the interval must be above zero."""
    impressions: PositiveInt = 100
    """At least so many lists with clicks and non-clicks must have been measured on."""
    ece: Share = 0.05
    """At most this expected calibration error."""
    label_mass: Annotated[float, Field(ge=0, le=1)] = 0.9
    """At least this share of the stories must have 95 % of the probability on the two labels."""
    traffic: Annotated[float, Field(gt=1)] = 2.0
    """The click-through of the newest lists may be at most so many times that of the others, and
    the other way round. Something else than readers' taste changes it more."""
    latency: Annotated[float, Field(gt=0)] | None = 1.2
    """A /rank may take at most so many times as long as with the served model; None: any time."""


class Experiment(Part):
    """How readers decide."""

    share: Share = 0.1
    """Of the readers, for the new model. 1 promotes it at once."""
    hours: PositiveFloat = 72
    """How long to wait for the anytime-valid interval to leave zero."""
    poll_s: PositiveFloat = 60
    undecided: Literal["back", "promote"] = "back"
    """What happens to a model that is not proven better or worse by then."""


class Plan(Part):
    """The whole file. Folders are those of the machine that refreshes."""

    url: str = "http://127.0.0.1:8000"
    """The service's. Its key is taken from OPENAI_API_KEY and needs the scope admin."""
    alias: str = "default"
    """The alias whose model is refreshed."""
    base: Path
    """The base model that the service serves."""
    adapters: Path
    """The service's adapter_root, as seen from here."""
    served: Path | None = None
    """The served model's folder; None to find it by the service's answer."""
    encoder: Path | None = Path("models/all-minilm-l6-v2")
    """A sentence encoder; None for a ranker without one."""
    name: Name = "news"
    """Adapters are called so, with the time."""

    finetune: Path | None = Path("configs/news.yaml")
    """Options of finetune; None to keep the served adapter and only fit its ranker anew."""
    set: tuple[str, ...] = ()
    """`name=value` each, over the options of that file."""
    prepare: tuple[str, ...] = ("--negatives", "9", "--history-samples", "8")
    """Further arguments of prepare. The default is the recipe of configs/news.yaml."""
    start: Literal["base", "served"] = "base"
    """What finetune begins with: the base, or the adapter now served."""
    tower: Literal["served", "train", "none"] = "served"
    """The tower of the new ranker: the served model's, a new one, or none."""

    every_hours: NonNegativeFloat = 20
    """A refresh begins only with traffic that is so much newer than the last one's."""
    days: PositiveFloat = 7
    """Of traffic to learn from."""
    click_hours: NonNegativeFloat = 1
    """How long a list waits for its clicks."""
    fit_hours: PositiveFloat = 6
    """Before test_hours: of lists that calibrate the model and teach the ranker."""
    test_hours: PositiveFloat = 6
    """Of the newest lists, on which the new model must be better."""
    fit_impressions: PositiveInt = 2000
    """How many lists of fit_hours the language model judges, at most."""
    test_impressions: PositiveInt = 2000
    """How many lists of test_hours, at most."""

    gate: Gate = Gate()
    experiment: Experiment = Experiment()


def read_plan(file: Path) -> Plan:
    """Raises TrainingError that names the file and what is wrong in it."""
    try:
        found = load_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return Plan.model_validate(found or {})
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in one['loc']) or 'the whole file'}: {one['msg']}"
            for one in error.errors()
        ]
        raise TrainingError(f"{file}: {'; '.join(problems)}") from None


@dataclass(frozen=True, slots=True)
class Windows:
    """Times in seconds since 1970: learned from `start` until before `fit`, fitted until before
    `test`, tested until before `end`."""

    start: float
    fit: float
    test: float
    end: float


def windows(plan: Plan, now: float) -> Windows:
    """Raises TrainingError where nothing is left to learn from."""
    end = float(int(now - plan.click_hours * 3600))
    test = end - plan.test_hours * 3600
    fit = test - plan.fit_hours * 3600
    start = end - plan.days * 86400
    if fit <= start:
        raise TrainingError("days: must be longer than fit_hours and test_hours together")
    return Windows(start, fit, test, end)


def iso(time: float) -> str:
    """As the commands take times, in UTC."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%S}"
