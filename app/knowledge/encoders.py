"""The sentence encoders of the models that are served."""

import hashlib
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from threadpoolctl import threadpool_limits

from app.knowledge.threads import Threads
from app.knowledge.titles import Embeds, TitleVectors
from app.likeness.folder import fingerprint, vector_width
from app.likeness.tower import TowerFile
from app.store.store import Store


class Encoders:
    """The sentence encoder as it is, and as each tower has tuned it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._work = Threads(store)
        self._known: WeakValueDictionary[bytes, TitleVectors] = WeakValueDictionary()
        self._looking = threading.Lock()
        self._fingerprint: bytes | None = None

    def vectors(self, tower: TowerFile | None = None) -> TitleVectors:
        """The vectors of the encoder, or of a tower's. Equal towers share theirs. Raises
        EncoderError for a folder without an encoder."""
        with self._looking:
            if self._fingerprint is None:
                self._fingerprint = fingerprint(self.folder)
            maker = self._fingerprint if tower is None else tuned(self._fingerprint, tower)
            found = self._known.get(maker)
            if found is None:
                load = partial(load_encoder, self.folder, tower)
                width = vector_width(self.folder)
                found = self._known[maker] = TitleVectors(maker, width, load, self._work)
            return found

    def plain(self) -> TitleVectors | None:
        """The vectors of the encoder as it is, if a model uses them."""
        with self._looking:
            return None if self._fingerprint is None else self._known.get(self._fingerprint)

    def announce(self, titles: Sequence[str]) -> None:
        """Have titles embedded for all models when there is time."""
        with self._looking:  # an adapter may be loaded in another thread
            known = list(self._known.values())
        for vectors in known:
            vectors.announce(titles)

    def start(self) -> None:
        """Start the threads. The store must be open before anything is embedded.

        From then on NumPy multiplies in one thread: with two, a small product took 70 ms while the
        engine's threads were spinning.
        """
        threadpool_limits(1, user_api="blas")
        self._work.start()

    def stop(self) -> None:
        self._work.stop()


def load_encoder(folder: Path, tower: TowerFile | None) -> Embeds:
    """Raises EncoderError."""
    from app.likeness.encoder import SentenceEncoder  # PyTorch takes seconds

    return SentenceEncoder(folder, None if tower is None else tower.tensors)


def tuned(encoder: bytes, tower: TowerFile) -> bytes:
    """The fingerprint of an encoder as a tower has tuned it."""
    found = hashlib.blake2b(encoder, digest_size=16)
    for name, tensor in sorted(tower.tensors.items()):
        found.update(name.encode() + tensor.tobytes())
    return found.digest()
