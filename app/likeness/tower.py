"""The tower as the service computes it: a reader's vector from the titles they clicked, in NumPy.

`tower.npz` holds, in half precision, low-rank additions to the sentence encoder's matrices
(`encoder.NAME.down` and `.up`) and the reader's part: self-attention over the last titles and
attentive pooling (NRMS: Wu et al., EMNLP 2019), plus half their mean. training.ranking.tower_model
is its PyTorch form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from app.likeness.cache import VectorCache

TOWER_FILE = "tower.npz"
"""Not in safetensors: in a merged model's folder, vLLM would take it for weights of the model."""
ENCODER = "encoder"
"""The name of the array that holds the encoder's name."""
LEARNED_UNTIL = "learned_until"
"""The name of the array that holds the time of the latest impression learned from."""
HISTORY = 50
"""How many of the latest titles a reader's vector is made of."""
HEADS = 12
READERS = 10_000
"""How many readers' vectors are remembered, of 1.5 KB each."""
SCALE = 10.0
"""A score is SCALE times a cosine, plus the story's bias."""
READER_TENSORS = (
    *("attention.in_weight", "attention.in_bias", "attention.out_weight", "attention.out_bias"),
    *("pool.hidden_weight", "pool.hidden_bias", "pool.weight"),
    *("story_bias.weight", "story_bias.bias", "nobody"),
)
UNREADABLE = OSError, ValueError, BadZipFile, AttributeError, EOFError, NotImplementedError
"""What NumPy and zipfile raise for files of other kinds, and for those that were changed or cut."""

Floats = NDArray[np.float32]
Tensors = Mapping[str, NDArray[np.float16]]


class TowerError(ValueError):
    """A tower file that can't be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class TowerFile:
    """encoder: the name of the sentence encoder that was tuned. tensors: by name. learned_until:
    the time of the latest impression learned from, in ISO 8601; empty where it is not known."""

    encoder: str
    tensors: Tensors
    learned_until: str = ""

    def write(self, folder: Path) -> None:
        """Write TOWER_FILE, whole or not at all."""
        partial = folder / f".{TOWER_FILE}.partial"
        with partial.open("wb") as file:
            texts = {ENCODER: self.encoder, LEARNED_UNTIL: self.learned_until}
            arrays: dict[str, Any] = {name: np.array(text) for name, text in texts.items()}
            arrays |= self.tensors
            np.savez(file, **arrays)
        partial.replace(folder / TOWER_FILE)


def read_tower(folder: Path) -> TowerFile | None:
    """The tower in an adapter's folder; None without one. Raises TowerError."""
    file = folder / TOWER_FILE
    if not file.exists():
        return None
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as opened:
            tensors = {key: opened[key] for key in opened.files}
    except (
        OSError,
        ValueError,
        BadZipFile,
        AttributeError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise TowerError(f"{file} can't be read: {error}") from None
    name, until = (str(tensors.pop(key, "")) for key in (ENCODER, LEARNED_UNTIL))
    missing = [key for key in READER_TENSORS if key not in tensors]
    if missing:
        raise TowerError(f"{file} lacks {missing[0]}")
    broken = [
        key for key, one in tensors.items() if one.dtype.kind != "f" or not np.isfinite(one).all()
    ]
    if broken:
        raise TowerError(f"{file}: {broken[0]} holds numbers that are not finite")
    misshapen = wrong_shape(tensors)
    if misshapen:
        raise TowerError(f"{file}: {misshapen} has a shape that does not fit the others")
    return TowerFile(name, tensors, until)


def wrong_shape(tensors: Tensors) -> str | None:
    """The first tensor whose shape does not fit the others."""
    width, hidden = tensors["nobody"].size, tensors["pool.weight"].size
    shapes = {
        "nobody": (width,),
        "attention.in_weight": (3 * width, width),
        "attention.in_bias": (3 * width,),
        "attention.out_weight": (width, width),
        "attention.out_bias": (width,),
        "pool.hidden_weight": (hidden, width),
        "pool.hidden_bias": (hidden,),
        "pool.weight": (hidden,),
        "story_bias.weight": (width,),
        "story_bias.bias": (1,),
    }
    for name, shape in shapes.items():
        if tensors[name].shape != shape or width % HEADS:
            return name
    for down in (name for name in tensors if name.endswith(".down")):
        up = tensors.get(f"{down.removesuffix('.down')}.up")
        if up is None or up.ndim != 2 or up.shape[1:] != tensors[down].shape[:1]:
            return down
    return None


def encoder_additions(tensors: Tensors) -> dict[str, Floats]:
    """What a tower adds to the encoder's matrices: [out, in] by the module's name."""
    names = [key[len("encoder.") : -len(".down")] for key in tensors if key.endswith(".down")]
    return {
        name: tensors[f"encoder.{name}.up"].astype(np.float32)
        @ tensors[f"encoder.{name}.down"].astype(np.float32)
        for name in names
    }


class ReaderEncoder:
    """A tower's reader part. Vectors are those of the tower's own encoder."""

    def __init__(self, tensors: Tensors) -> None:
        self._of = {name: tensors[name].astype(np.float32) for name in READER_TENSORS}
        self.width = len(self._of["nobody"])
        self._nobody = unit(self._of["nobody"])
        self._readers = VectorCache[bytes, Floats](READERS)

    def reader(self, history: Floats) -> Floats:
        """The vector [width], of unit length, of a reader by the titles they clicked. Those of the
        latest READERS readers are remembered, since most come again before their next click.

        history: [titles, width], the oldest first; only the last HISTORY count.
        """
        titles = np.ascontiguousarray(history[-HISTORY:], np.float32)
        if not len(titles):
            return self._nobody
        key = blake2b(titles.data, digest_size=16).digest()
        found = self._readers.known([key]).get(key)
        if found is None:
            found = self._compute(titles)
            self._readers.put({key: found})
        return found

    def _compute(self, titles: Floats) -> Floats:
        own = self._of
        query, key, value = (
            part.reshape(len(titles), HEADS, -1).transpose(1, 0, 2)
            for part in np.split(
                titles @ own["attention.in_weight"].T + own["attention.in_bias"], 3, axis=1
            )
        )
        shares = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(query.shape[-1])))
        joined = (shares @ value).transpose(1, 0, 2).reshape(len(titles), -1)
        mixed = joined @ own["attention.out_weight"].T + own["attention.out_bias"]
        hidden = np.tanh(mixed @ own["pool.hidden_weight"].T + own["pool.hidden_bias"])
        pooled = softmax(hidden @ own["pool.weight"]) @ mixed
        return unit(pooled + titles.mean(0) / 2)

    def scores(self, reader: Floats, stories: Floats) -> NDArray[np.float64]:
        """reader: [width]; stories: [stories, width] → scores [stories]."""
        own = self._of
        bias = stories @ own["story_bias.weight"] + own["story_bias.bias"]
        return np.asarray(SCALE * (stories @ reader) + bias, np.float64)


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)


def unit(vector: Floats) -> Floats:
    """The vector with length 1."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
