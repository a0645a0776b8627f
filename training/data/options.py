"""What `prepare` and `collect` are asked: click logs, a store, and a recipe with its options."""

from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from app.scoring.profile import Profile
from training.arguments import check_least
from training.errors import TrainingError

ORIGINAL_LIST = 3
"""How many stories of each of a reader's lists the original project uses."""


@dataclass(frozen=True)
class Temporal:
    """The recipe that knows of a reader only what earlier impressions tell.

    negatives: non-clicks sampled for each click in train. history_samples: clicks of each reader's
    history to learn from as well. history, liked, disliked: how many stories of each list are kept.
    layout, text_history: the layout of the prompts in the text files, and the stories of the
    history in them. text_samples: how many samples a text file holds at most; -1 for all.
    """

    name: ClassVar[str] = "temporal"

    negatives: int = 4
    history_samples: int = 0
    history: int = 50
    liked: int = 20
    disliked: int = 20
    layout: str = "compact"
    text_history: int = 20
    text_samples: int = 200_000

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "layout":
                least = {"negatives": 1, "text_samples": -1}.get(field.name, 0)
                check_least(field.name, getattr(self, field.name), least)

    def text_profile(self) -> Profile:
        """How the prompts in the text files are built."""
        return Profile.model_validate({"layout": self.layout, "history": self.text_history})


@dataclass(frozen=True)
class Original:
    """The original project's sampling, to compare with. It has no options of its own."""

    name: ClassVar[str] = "original"
    history: ClassVar[int] = ORIGINAL_LIST
    text_samples: ClassVar[int] = -1

    def text_profile(self) -> Profile:
        """How the prompts in the text files are built: as the original project builds them."""
        return Profile()


Recipe = Temporal | Original


@dataclass(frozen=True)
class PrepareOptions:
    """train, val, test: folders in MIND's layout, or with a log.yaml; log: a log.yaml for all of
    them. Without `val`, a part of `train` validates: from `val_from` on or, without that, its last
    `val_days` calendar days. Without `test`, the part of `train` from `test_from` on tests, if that
    is given. max_bad_share: the share of a file's rows, 0 to 1, that may be faulty."""

    train: Path
    val: Path | None
    test: Path | None
    val_from: datetime | None
    val_days: int
    test_from: datetime | None
    log: Path | None
    out: Path
    recipe: Recipe
    seed: int
    max_bad_share: float

    def __post_init__(self) -> None:
        check_least("val_days", self.val_days, 1)
        check_least("seed", self.seed, 0)
        if not 0 <= self.max_bad_share <= 1:
            raise TrainingError(
                f"--max-bad-share {self.max_bad_share}: must be a share from 0 to 1"
            )

    def folders(self) -> dict[str, Path]:
        """The given folders, by the names of their splits."""
        given = {"train": self.train, "val": self.val, "test": self.test}
        return {split: folder for split, folder in given.items() if folder is not None}


@dataclass(frozen=True)
class CollectOptions:
    """store: the database's URL. start, until: of the times shown, in seconds since 1970. window:
    how many hours a click may take to count. history: how many clicked stories are kept."""

    store: str
    out: Path
    start: float | None
    until: float | None
    window: float
    history: int

    def __post_init__(self) -> None:
        check_least("history", self.history, 1)
        if not self.window >= 0:
            raise TrainingError(f"--window {self.window:g}: must be a number of hours, 0 or more")
