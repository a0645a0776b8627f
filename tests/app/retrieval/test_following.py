"""How the catalogue is kept up with a real store."""

from collections.abc import Iterable

import pytest

from app.retrieval.catalogue import Catalogue
from app.retrieval.following import OVERLAP_S, Following
from app.retrieval.index import ExactIndex
from app.store.database import Database
from app.store.listing import Listed
from app.store.records import StoredStory
from app.store.writing import put_stories

START = 1_700_000_000.0


class Counting(Catalogue):
    """Notes which stories it was given."""

    def __init__(self) -> None:
        super().__init__(1000, ExactIndex)
        self.got: list[str] = []

    def put(self, found: Iterable[Listed], read_at: float) -> None:
        listed = list(found)
        self.got += [one.story.id for one in listed]
        super().put(listed, read_at)


def test_stories_are_not_read_again_until_they_change(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, catalogue = Database(store_url), Counting()
    database.open()
    clock = START
    monkeypatch.setattr(database, "now", lambda: clock)
    following = Following(database, catalogue, lambda: None)

    def look() -> list[str]:
        catalogue.got.clear()
        following.follow()
        return sorted(catalogue.got)

    with database.writing() as connection:
        put_stories(connection, [StoredStory(f"N{n}", f"title {n}") for n in range(9)], START)
    assert look() == [f"N{n}" for n in range(9)]
    clock += OVERLAP_S + 1
    look()  # once more, as transactions may take so long
    clock += 1
    assert look() == []
    with database.writing() as connection:
        put_stories(connection, [StoredStory("N3", "another title")], clock - OVERLAP_S / 2)
    assert look() == ["N3"]
    titles = catalogue.titles(catalogue.without_vectors().tolist())
    assert "another title" in titles.values()
    database.close()
