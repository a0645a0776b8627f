"""What `finetune` and `calibrate` are asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class FinetuneOptions:
    """config: a YAML file with options of training.tuning.config.FinetuneConfig. model: the base
    model's folder. set: `name=value` each, over the file's options. resume: continue from the last
    checkpoint in `output`."""

    config: Path
    model: Path
    data: Path
    output: Path
    set: list[str]
    resume: bool


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
