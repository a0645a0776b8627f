"""A prepared log as arrays: which story stood where in which list, and whether it was clicked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.errors import TrainingError
from training.metrics import Flags, Floats
from training.ranking.log import KEY
from training.ranking.rows import read_scores

Ints = NDArray[np.int64]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Shown:
    """All lists with labels. starts, sizes, readers, days: [lists], readers as numbers from 0, days
    since 1970. keys: the lists' keys; ids: the ids that the log's own file has. stories, clicked:
    [candidates], list after list, in the order shown."""

    starts: Ints
    sizes: Ints
    readers: Ints
    days: Ints
    keys: list[str]
    ids: pl.Series
    stories: Ints
    clicked: Flags

    @property
    def places(self) -> Ints:
        """Where each candidate stood in its list, from 0: [candidates]."""
        return np.arange(len(self.stories)) - np.repeat(self.starts, self.sizes)

    def each(self, values: NDArray[Value]) -> NDArray[Value]:
        """Values [lists] for each candidate."""
        return np.repeat(values, self.sizes)


def read_shown(rows: pl.LazyFrame) -> Shown:
    """rows: as PreparedData.log returns them. Raises TrainingError for a log without labels."""
    found = rows.select(
        "impression",
        "candidates",
        "clicked",
        key=KEY,
        reader=pl.col("user").cast(pl.Categorical).to_physical(),
        day=pl.col("time").dt.epoch("d"),
    )
    table = found.filter(pl.col("clicked").is_not_null()).collect()
    if table.is_empty():
        raise TrainingError("the log holds no impression with labels: nothing can be estimated")
    sizes = table["candidates"].list.len().to_numpy().astype(np.int64)
    _, readers = np.unique(table["reader"].to_numpy(), return_inverse=True)
    return Shown(
        starts=np.cumsum(sizes) - sizes,
        sizes=sizes,
        readers=readers.astype(np.int64),
        days=table["day"].to_numpy().astype(np.int64),
        keys=table["key"].to_list(),
        ids=table["impression"],
        stories=table["candidates"].explode().to_numpy().astype(np.int64),
        clicked=table["clicked"].explode().to_numpy(),
    )


def place_scores(shown: Shown, files: Sequence[Path]) -> Floats:
    """The scores in files that `score` wrote, [candidates]; NaN in lists that have none. Raises
    TrainingError for files whose scores are not those of this log."""
    found = np.full(len(shown.stories), np.nan)
    number = {key: place for place, key in enumerate(shown.keys)}
    for file in files:
        for key, own in read_scores(file).items():
            if key not in number:
                continue
            start, size = shown.starts[number[key]], shown.sizes[number[key]]
            if len(own) != size or not np.isfinite(own).all():
                raise TrainingError(
                    f"{file}: impression {key!r} has {size} candidates, but"
                    f" {np.isfinite(own).sum()} scores that are numbers"
                )
            found[start : start + size] = own
    if np.isnan(found).all():
        raise TrainingError(
            f"{' '.join(map(str, files))}: no scores for any of the {len(shown.keys):,} impressions"
            " with labels: were they made from this folder?"
        )
    return found


def ordered_by(shown: Shown, file: Path, name: str) -> Flags:
    """Which lists the model or alias `name` ordered, [lists]. file: as collect writes it, with the
    columns id, model and alias. Raises TrainingError."""
    try:
        table = pl.read_parquet(file, columns=["id", "model", "alias"])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TrainingError(f"--shown {file}: {error}") from None
    own = table.filter((pl.col("model") == name) | (pl.col("alias") == name))["id"]
    lists: Flags = shown.ids.is_in(own.cast(pl.String).implode()).to_numpy()
    if not lists.any():
        raise TrainingError(
            f"--random {name}: no list of the log is one that {file} says {name} ordered"
        )
    return lists
