"""Conversion of stories and events that a site sends to the store's records, and back."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

from app.errors import InvalidValue
from app.http.schemas.events import Click, Impression
from app.http.schemas.readers import KnownReader
from app.http.schemas.stories import KeptStory, LiveFigure, SentStory
from app.scoring.wording import one_line
from app.settings import Limits
from app.signals.live import Figures
from app.store.reading import ReaderSummary
from app.store.records import ClickEvent, ImpressionEvent, StoredStory

MAX_AHEAD_S = 600.0
"""How many seconds an event's time may be ahead of the store's clock."""
TICK_S = 1e-6
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def story_within(limits: Limits) -> Callable[[SentStory, str], StoredStory]:
    """The conversion of stories whose titles are within the limits."""

    def story(sent: SentStory, field: str) -> StoredStory:
        """field: the story's in the request, for errors. Raises InvalidValue."""
        check_title(sent.title, limits, field)
        return StoredStory(sent.id, *cleaned(sent.title, sent.category), sent.published_at)

    return story


def check_title(title: str, limits: Limits, field: str) -> None:
    """field: the story's in the request. Raises InvalidValue for a title that is too long."""
    if len(title) > limits.max_title_chars:
        name = f"{field}.title"
        raise InvalidValue(f"{name}: at most {limits.max_title_chars} characters here", name)


def cleaned(title: str, category: str | None) -> tuple[str, str | None]:
    """A story's texts as prompts have them, without control characters."""
    return one_line(title), None if category is None else one_line(category)


def event_at(now: float) -> Callable[[Impression | Click, str], ImpressionEvent | ClickEvent]:
    """The conversion of events that arrive at `now`, in seconds since 1970. Those without a time
    get different ones, so that a reader's clicks keep their order."""
    unique, batch = count(), uuid4().hex

    def event(sent: Impression | Click, field: str) -> ImpressionEvent | ClickEvent:
        """field: the event's in the request, for errors. Raises InvalidValue for a time in the
        future."""
        number = next(unique)
        name = sent.id or f"{batch}-{number}"
        time = now + number * TICK_S if sent.time is None else sent.time
        if time > now + MAX_AHEAD_S:
            raise InvalidValue(f"{field}.time: it is in the future", f"{field}.time")
        if isinstance(sent, Impression):
            return ImpressionEvent(name, time, sent.reader_id, sent.stories)
        return ClickEvent(name, time, sent.reader_id, sent.story, sent.impression_id)

    return event


def by_kind(
    events: Sequence[ImpressionEvent | ClickEvent],
) -> tuple[list[ImpressionEvent], list[ClickEvent]]:
    return (
        [event for event in events if isinstance(event, ImpressionEvent)],
        [event for event in events if isinstance(event, ClickEvent)],
    )


def kept_story(story: StoredStory) -> KeptStory:
    published = None if story.published is None else moment(story.published)
    return KeptStory(
        id=story.id, title=story.title, category=story.category, published_at=published
    )


def live_figure(found: Figures, now: float, row: int = 0) -> LiveFigure | None:
    """Of one story, which is in this row."""
    if not found.shown[row]:
        return None
    return LiveFigure(
        impressions=round(found.shown[row]),
        clicks=found.clicks[row],
        expected_clicks=found.exposure[row] * found.site_rate,
        first_shown=moment(now - found.age_s[row]),
    )


def known_reader(reader_id: str, found: ReaderSummary) -> KnownReader:
    """found: with at least one impression or click."""
    return KnownReader(
        reader_id=reader_id,
        history=[kept_story(story) for story in found.history],
        impressions=found.impressions,
        clicks=found.clicks,
        first=moment(found.first or 0.0),
        last=moment(found.last or 0.0),
    )


def moment(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)
