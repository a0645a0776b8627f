"""What `merge` is asked."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MergeOptions:
    """base: the model that the adapters were trained on. adapter: folders of LoRA adapters, whose
    mean is merged. data: a prepared set whose prompts the check uses instead of built-in ones.
    no_check: leave the check out."""

    base: Path
    adapter: list[Path]
    output: Path
    data: Path | None
    no_check: bool


@dataclass(frozen=True)
class UndoOptions:
    """adapter: the folder of the LoRA adapter that was merged."""

    adapter: Path
    output: Path
