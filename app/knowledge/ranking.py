"""What a model's ranker needs while it serves: trees, tower, and vectors of titles."""

import logging
from dataclasses import dataclass
from pathlib import Path

from app.knowledge.encoders import Encoders
from app.knowledge.titles import TitleVectors
from app.likeness.folder import EncoderError
from app.likeness.tower import TOWER_FILE, ReaderEncoder, read_tower
from app.ranker.ranker import DESCRIPTION_FILE, Ranker, RankerError, load_ranker

logger = logging.getLogger("frontpage.knowledge")


@dataclass(frozen=True, slots=True)
class Ranking:
    """titles: vectors for the cosines; None if the ranker was fitted without. tower, tower_titles:
    the tower's reader part, and titles as it sees them; None without a tower."""

    ranker: Ranker
    titles: TitleVectors | None
    tower: ReaderEncoder | None
    tower_titles: TitleVectors | None

    @property
    def is_proven(self) -> bool:
        """Whether titles can be embedded at once."""
        return all(vectors.is_proven for vectors in self._encoders())

    async def prove(self) -> None:
        """Load the encoders, and embed a title. Raises EncoderError."""
        for vectors in self._encoders():
            await vectors.prove()

    def _encoders(self) -> list[TitleVectors]:
        return [one for one in (self.titles, self.tower_titles) if one is not None]


def load_ranking(folder: Path, encoders: Encoders, half_life_s: float | None) -> Ranking | None:
    """The ranker in an adapter's or model's folder; None where it has none.

    half_life_s: of the service's live figures. Raises RankerError, TowerError or EncoderError.
    """
    ranker = load_ranker(folder)
    if ranker is None:
        return None
    description = ranker.description
    if description.half_life_s != half_life_s:
        logger.warning(
            "%s: fitted on live figures with a half-life of %s seconds, not %s: set"
            " live_half_life_hours alike",
            *(folder / DESCRIPTION_FILE, description.half_life_s, half_life_s),
        )
    tower = read_tower(folder) if description.tower else None
    if description.tower and tower is None:
        raise RankerError(f"{folder / DESCRIPTION_FILE}: it needs a tower, but there is none")
    for name in {description.encoder, tower.encoder if tower else None} - {None}:
        check_name(str(name), encoders)
    found = Ranking(
        ranker,
        encoders.vectors() if description.encoder else None,
        ReaderEncoder(tower.tensors) if tower else None,
        encoders.vectors(tower) if tower else None,
    )
    if found.tower and found.tower_titles and found.tower.width != found.tower_titles.width:
        raise EncoderError(
            f"{folder / TOWER_FILE}: its vectors have {found.tower.width} numbers, those of"
            f" {encoders.folder} {found.tower_titles.width}: it was tuned on another encoder"
        )
    return found


def check_name(name: str, encoders: Encoders) -> None:
    """Raises EncoderError unless the service has the encoder of this name."""
    if encoders.folder.name != name:
        raise EncoderError(
            f"the ranker needs the sentence encoder {name}, but the setting `encoder` is"
            f" {encoders.folder}"
        )
