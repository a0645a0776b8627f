"""What changes in the store mean: which stories a reader was shown and clicked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from app.signals.batch import Event
from app.signals.gate import Kind
from app.store.changes import Change, Told
from app.store.counted import ClickedStory, ShownStories, read_clicked, read_shown


def read_events(connection: Connection, changes: Sequence[Change], now: float) -> list[Event]:
    """The events of changes, in their order. Rows that were erased since are left out.

    now: of the store's clock, in Unix seconds; what is later counts as of now.
    """
    shown = read_shown(
        connection,
        [
            number
            for change in changes
            for number in (*change.shown, *(told.impression for told in change.told))
        ],
    )
    clicked = read_clicked(connection, [number for change in changes for number in change.clicks])
    return [event for change in changes for event in Reading(change, now).events(shown, clicked)]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one change means. now: what is later counts as of now."""

    change: Change
    now: float

    def events(
        self, shown: Mapping[int, ShownStories], clicked: Mapping[int, ClickedStory]
    ) -> Iterator[Event]:
        """shown, clicked: the rows by number; those that are missing were erased."""
        for number in self.change.shown:
            if number in shown:
                one = shown[number]
                yield self._event(one, one.stories, Kind.SHOWN, range(len(one.stories)))
        for told in self.change.told:
            if told.impression in shown:
                yield from self._told(shown[told.impression], told)
        for number in self.change.clicks:
            if number in clicked:
                click = clicked[number]
                yield self._event(click, [click.story], Kind.CLICKED)

    def _told(self, one: ShownStories, told: Told) -> Iterator[Event]:
        """Stories that are not ranked count one by one, once something is known of them."""
        stories, places = [one.stories[told.position]], None
        if one.ranked:
            places = [told.position]
        else:
            yield self._event(one, stories, Kind.SHOWN)
        if told.clicked or told.taken_back:
            kind = Kind.CLICKED if told.clicked else Kind.TAKEN_BACK
            yield self._event(one, stories, kind, places)

    def _event(
        self,
        row: ShownStories | ClickedStory,
        stories: Sequence[str],
        kind: Kind,
        places: Sequence[int] | None = None,
    ) -> Event:
        reader = row.reader or f"{type(row).__name__} {row.number}"  # or a name that no other has
        at, key = min(row.time, self.now), self.change.sender or ""
        return Event(reader, stories, at, kind, places, key, self.change.time)
