"""Story vectors of a log, computed once for each encoder and kept beside the prepared data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.likeness.cache import content_key
from training.progress import say


def story_vectors(
    data: Path, encoder: Path, titles: Sequence[str], used: Sequence[int]
) -> NDArray[np.float32]:
    """[titles, width]; zeros for stories that are not used. Kept in `data` in half precision, as
    the service keeps them."""
    names = distinct(titles, used)
    row = {title: number for number, title in enumerate(names)}
    file = vectors_file(data, encoder, names)
    if file.is_file():
        own = np.load(file)
    else:
        from app.likeness.encoder import SentenceEncoder

        say(f"embedding {len(names):,} titles")
        own = SentenceEncoder(encoder).embed(names).astype(np.float16)
        partial = file.with_name(f".{file.name}.partial.npy")
        np.save(partial, own)
        partial.replace(file)
    vectors = np.zeros((len(titles), own.shape[1]), np.float32)
    vectors[list(used)] = own[[row[titles[index]] for index in used]]
    return vectors


def distinct(titles: Sequence[str], used: Sequence[int]) -> list[str]:
    """The titles of the used stories, each once, in the order of their first use."""
    return list(dict.fromkeys(titles[index] for index in used))


def vectors_file(data: Path, encoder: Path, titles: Sequence[str]) -> Path:
    """Where the vectors of these titles are kept, [titles, width]."""
    key = content_key("\n".join([encoder.name, *titles])).hex()
    return data / f"vectors-{key}.npy"
