"""What `evaluate` and `report` are asked."""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from training.arguments import check_least
from training.errors import TrainingError

Recorded = int | float | str | list[int] | list[str]
"""An argument as evaluation.json keeps it."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model as the command line names it. folder: None where only a service knows the model."""

    name: str
    folder: Path | None


@dataclass(frozen=True)
class EvaluateOptions:
    """model: `NAME=FOLDER` each; the others are compared with the first. limit: how many
    impressions, spread evenly over the split; None for all. base: of adapters that don't name
    theirs. seed: of pairs and intervals. bootstrap: how often impressions are resampled for an
    interval. text_pairs: how many pairs are asked for in text as well. speed_seconds: of each
    timing; 0 for none. sizes: how many samples are in a batch, or calls run at once.

    For one backend only: dtype, of the weights, and batch_tokens, of a forward pass, for
    transformers; engine, vLLM's own options as a JSON object; url and concurrency, the number of
    calls at once, for a service over HTTP.

    encoder: the sentence encoder of models with a ranker; None for models/NAME.
    """

    data: Path
    split: str
    limit: int | None
    model: list[str]
    base: Path | None
    encoder: Path | None
    output: Path
    backend: Literal["transformers", "vllm", "http"]
    seed: int
    bootstrap: int
    text_pairs: int
    speed_seconds: float
    sizes: list[int]
    dtype: str
    batch_tokens: int
    engine: str
    url: str
    concurrency: int

    def __post_init__(self) -> None:
        self._check_models()
        lowest = {"limit": 1, "bootstrap": 2, "text_pairs": 0, "speed_seconds": 0, "concurrency": 1}
        for name, least in {**lowest, "batch_tokens": 1, "seed": 0}.items():
            check_least(name, getattr(self, name), least)
        if not isinstance(self.engine_options, dict):
            raise TrainingError('--engine: must be an object, such as {"max_model_len": 4096}')
        if min(self.sizes) < 1:
            raise TrainingError("--sizes: each must be 1 or more")

    @cached_property
    def models(self) -> list[NamedModel]:
        """`model`, parsed. Raises TrainingError for an empty name."""
        found = []
        for text in self.model:
            name, _, folder = text.partition("=")
            if not name or name != name.strip():
                raise TrainingError(f"--model {text}: write it as NAME=FOLDER")
            found.append(NamedModel(name, Path(folder) if folder else None))
        return found

    @cached_property
    def engine_options(self) -> dict[str, Any]:
        """`engine`, parsed. Raises TrainingError."""
        try:
            found: dict[str, Any] = json.loads(self.engine)
        except ValueError as error:
            raise TrainingError(f"--engine is not JSON: {error}") from None
        return found

    def _check_models(self) -> None:
        if len({model.name for model in self.models}) < len(self.models):
            raise TrainingError("--model: two models have the same name")
        for model in self.models:
            if model.folder is None and self.backend != "http":
                raise TrainingError(f"--model {model.name}: write it as NAME=FOLDER")

    def recorded(self) -> dict[str, Recorded]:
        """The arguments by name, as evaluation.json keeps them; those not given are left out."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"command": "evaluate"} | {
            name: value if isinstance(value, int | float | list) else str(value)
            for name, value in given.items()
            if value is not None
        }


@dataclass(frozen=True)
class ReportOptions:
    """folders: written by evaluate. output: None for report.html in the first of them."""

    folders: list[Path]
    output: Path | None


@dataclass(frozen=True)
class EstimateOptions:
    """scores: `NAME=FILE` each, as `score` writes them; files of one name are taken together.
    output: a JSON file. How the log was ordered, one of: served, files with the scores; random, the
    model or alias whose orders were random, by the file `shown`, which `collect` writes;
    same_for_all. depth: places that are told apart; the last stands for all below. clip,
    least_clicks, any_shape (not monotone), bootstrap: see training.evaluation.logged.Rules."""

    data: Path
    scores: list[str]
    output: Path
    served: list[Path]
    random: str | None
    same_for_all: bool
    shown: Path
    depth: int
    clip: float
    least_clicks: float
    any_shape: bool
    bootstrap: int
    seed: int

    def __post_init__(self) -> None:
        lowest = {"depth": 2, "clip": 1, "least_clicks": 1, "bootstrap": 100, "seed": 0}
        for name, least in lowest.items():
            check_least(name, getattr(self, name), least)
        for name, files in self.files.items():
            if len(set(files)) < len(files):
                raise TrainingError(f"--scores: {name} has the same file twice")

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """`scores`, parsed. Raises TrainingError."""
        found: dict[str, list[Path]] = {}
        for text in self.scores:
            name, _, file = text.partition("=")
            if not file or not name or name != name.strip():
                raise TrainingError(f"--scores {text}: write it as NAME=FILE")
            found.setdefault(name, []).append(Path(file))
        return found
