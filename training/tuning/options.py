"""What `finetune` and `calibrate` are asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.errors import TrainingError

PLACES = {"model": "model_name_or_path", "data": "dataset_dir", "output": "output_dir"}
"""Our arguments for folders, with LLaMA-Factory's names for them."""


@dataclass(frozen=True)
class FinetuneOptions:
    """config: a YAML file with options of training.tuning.config.FinetuneConfig. model: the base
    model's folder; like data and output, it may stand in the file instead. set: `name=value` each,
    over the file's options. resume: continue from the last checkpoint in `output`."""

    config: Path
    model: Path | None
    data: Path | None
    output: Path | None
    set: list[str]
    resume: bool

    def place(self, name: str, named: Mapping[str, str]) -> Path:
        """The folder that the argument `name` gives or else the file. named: the file's folders by
        argument. Raises TrainingError where there is neither."""
        given: Path | None = getattr(self, name)
        if given is None and name not in named:
            raise TrainingError(f"--{name} is missing, and {self.config} has no {PLACES[name]}")
        return given or Path(named[name])


@dataclass(frozen=True)
class CalibrateOptions:
    """model: the folder of a trained adapter or model. base: of an adapter that does not name its
    own. limit: how many impressions, below 1 what share of them, None for all. threshold: how the
    threshold of Yes. is chosen. batch_tokens: of a forward pass."""

    model: Path
    data: Path
    base: Path | None
    limit: float | None
    threshold: Literal["balanced", "chat"]
    batch_tokens: int
