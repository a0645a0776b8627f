"""What a training run was: run.json, and a picture of its losses."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from training.machine import PACKAGES, hardware, peak_memory
from training.provenance import Hardware, commit, versions
from training.tuning.calibration import Fit
from training.tuning.config import FinetuneConfig

RECORD_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model was trained from.

    base_model: the name of the base's folder. base_fingerprint: tells the base's weights from
    others (app.engine.fingerprint). data_hash: of the prepared data set.
    """

    base_model: str
    base_fingerprint: str
    data_hash: str


@dataclass(frozen=True, slots=True)
class TrainingSpeed:
    """One process's training steps, without evaluations and checkpoints.

    tokens: of prompts and answers, without padding. answers: candidates learned from; both count
    again in each epoch. operations_per_token: floating-point operations of the layers' matrix
    products, forward and backward. teraflops_per_second: those operations, in 10¹² a second.
    """

    trainable_parameters: int
    tokens: int
    answers: int
    train_seconds: float
    tokens_per_second: float
    answers_per_second: float
    operations_per_token: int
    teraflops_per_second: float


class RunRecord(BaseModel):
    """run.json. Fields of Origin and TrainingSpeed are among its own; see there."""

    model_config = ConfigDict(frozen=True)

    base_model: str
    base_fingerprint: str
    data_hash: str
    seconds: float
    """From the start of the command to its end."""
    trainable_parameters: int
    tokens: int
    answers: int
    train_seconds: float
    tokens_per_second: float
    answers_per_second: float
    operations_per_token: int
    teraflops_per_second: float
    calibration: Fit | None
    """None where no impressions were asked for."""
    seed: int
    config: dict[str, Any]
    """The options of the run's FinetuneConfig by name; an older file has those of its day."""
    commit: str | None
    """The code's git commit, with -dirty where files differ; None outside a repository."""
    versions: dict[str, str]
    """Of Python and of libraries, by name."""
    hardware: Hardware
    peak_memory_bytes: int
    """The most that was allocated on the GPU or, without one, resident in the process."""

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Raises OSError, and ValueError for a file of something else."""
        return cls.model_validate_json((folder / RECORD_FILE).read_bytes())

    def write(self, folder: Path) -> None:
        """Write run.json into `folder`. Raises OSError."""
        text = json.dumps(self.model_dump(), indent=1)
        (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")


def describe_run(
    config: FinetuneConfig, origin: Origin, seconds: float, speed: TrainingSpeed, found: Fit | None
) -> RunRecord:
    """The record of a run that ends now, on this machine and with this code."""
    return RunRecord(
        **asdict(origin),
        seconds=seconds,
        **asdict(speed),
        calibration=found,
        seed=config.seed,
        config=asdict(config),
        commit=commit(),
        versions={"python": platform.python_version()} | versions(PACKAGES),
        hardware=hardware(),
        peak_memory_bytes=peak_memory(),
    )


def plot_loss(history: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw the training loss and the validation figures by step. history: Trainer's log."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    twin = axes.twinx()
    twin.set_ylabel("AUC by impression")
    for name, where, style in (
        ("loss", axes, "C0-"),
        ("eval_loss", axes, "C1o-"),
        ("eval_auc", twin, "C2s--"),
    ):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        if points:
            where.plot(*zip(*points, strict=True), style, label=name)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(file, dpi=120)
