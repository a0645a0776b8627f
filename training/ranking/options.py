"""What `tower`, `score` and `rank` are asked."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from training.arguments import check_least
from training.errors import TrainingError


@dataclass(frozen=True)
class TowerCommand:
    """data: a prepared folder. encoder: a sentence-transformers folder. output: the folder to write
    tower.npz into."""

    data: Path
    encoder: Path
    output: Path
    seed: int


@dataclass(frozen=True)
class ScoreCommand:
    """Score the log's impressions from `start` until before `end` with a language model (`model`)
    or with a tower (`tower`, on `encoder`). limit: how many of them, spread evenly; None for
    all."""

    data: Path
    model: Path | None
    base: Path | None
    tower: Path | None
    encoder: Path | None
    start: datetime | None
    end: datetime | None
    limit: int | None
    output: Path
    batch_tokens: int

    def __post_init__(self) -> None:
        check_least("limit", self.limit, 1)


@dataclass(frozen=True)
class RankCommand:
    """text, tower: files with scores that models gave to days they had not seen. test_from:
    impressions from then on are only measured on. within: a prepared folder; its impressions are
    also measured on by themselves. refit: fit on these too afterwards. impressions: at most so many
    are learned from, the newest."""

    data: Path
    encoder: Path | None
    text: list[Path]
    tower: list[Path]
    output: Path
    test_from: datetime | None
    within: Path | None
    refit: bool
    impressions: int
    half_life_hours: float | None
    dropout: float
    seed: int
    threads: int

    def __post_init__(self) -> None:
        check_least("threads", self.threads, 1)
        check_least("impressions", self.impressions, 1)
        if not 0 <= self.dropout < 1:
            raise TrainingError(f"--dropout {self.dropout}: must be a share from 0 to below 1")
        if self.half_life_hours is not None and self.half_life_hours <= 0:
            raise TrainingError(f"--half-life-hours {self.half_life_hours}: must be above 0")
