"""What changes in the store mean: which stories a reader was shown and clicked."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from app.signals.batch import Event
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
    return [event for change in changes for event in events_of(change, shown, clicked, now)]


def events_of(
    change: Change,
    shown: dict[int, ShownStories],
    clicked: dict[int, ClickedStory],
    now: float,
) -> Iterator[Event]:
    for number in change.shown:
        if number in shown:
            one = shown[number]
            stories = [(story, place) for place, story in enumerate(one.stories)]
            yield Event(reader_of(one), stories, min(one.time, now))
    for told in change.told:
        if told.impression in shown:
            yield from events_of_told(shown[told.impression], told, now)
    for number in change.clicks:
        if number in clicked:
            click = clicked[number]
            yield Event(reader_of(click), [(click.story, None)], min(click.time, now), True)


def events_of_told(one: ShownStories, told: Told, now: float) -> Iterator[Event]:
    """Stories that are not ranked count one by one, once something is known of them."""
    story = one.stories[told.position]
    at = min(one.time, now)
    if not one.ranked:
        yield Event(reader_of(one), [(story, None)], at)
    if told.clicked:
        place = told.position if one.ranked else None
        yield Event(reader_of(one), [(story, place)], at, True)


def reader_of(row: ShownStories | ClickedStory) -> str:
    """The reader's hash, or a name that no other row has."""
    if row.reader is not None:
        return row.reader.hex()
    return f"{type(row).__name__} {row.number}"
