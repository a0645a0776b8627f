"""Story vectors of a log, computed once for each encoder and kept beside the prepared data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.likeness.cache import content_key
from training.progress import say


def used_stories(log: pl.DataFrame) -> list[int]:
    """The indices of all stories that the log names."""
    columns = ("history", "candidates")
    found = pl.concat([log[name].explode().drop_nulls() for name in columns]).unique().sort()
    return [int(index) for index in found]


def story_vectors(
    data: Path, encoder: Path, titles: Sequence[str], used: Sequence[int]
) -> NDArray[np.float32]:
    """[titles, width]; zeros for stories that are not used. Kept in `data` in half precision, as
    the service keeps them."""
    key = content_key("\n".join([encoder.name, *(titles[index] for index in used)])).hex()
    file = data / f"vectors-{key}.npy"
    if file.is_file():
        own = np.load(file)
    else:
        from app.likeness.encoder import SentenceEncoder

        say(f"embedding {len(used):,} titles")
        own = SentenceEncoder(encoder).embed([titles[index] for index in used]).astype(np.float16)
        partial = file.with_name(f".{file.name}.partial.npy")
        np.save(partial, own)
        partial.replace(file)
    vectors = np.zeros((len(titles), own.shape[1]), np.float32)
    vectors[list(used)] = own
    return vectors
