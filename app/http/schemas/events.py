"""The wire types of events: what a site's readers were shown and clicked."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.http.schemas.base import Unvalidated, Wire
from app.http.schemas.stories import MAX_SENT, Id, Time
from app.settings import MAX_CANDIDATES

EVENTS: list[Any] = [
    {
        "type": "impression",
        "id": "i1",
        "time": "2026-03-01T07:00:00Z",
        "reader_id": "u1",
        "stories": ["N1", "N2"],
    },
    {
        "type": "click",
        "id": "c1",
        "time": "2026-03-01T07:00:09Z",
        "reader_id": "u1",
        "story": "N2",
        "impression_id": "i1",
    },
]


class Event(Wire):
    id: Id | None = Field(
        None,
        description="An event whose id is known already is counted as a duplicate and changes"
        " nothing. An event without an id gets one, so sending it again counts it again.",
    )
    time: Time | None = Field(
        None,
        description="ISO 8601 with a time zone, or seconds since 1970. Default: now.",
    )
    reader_id: str | None = Field(
        None, min_length=1, max_length=200, description="Only a keyed hash of it is stored."
    )


class Impression(Event):
    """Stories that a reader was shown."""

    type: Literal["impression"]
    stories: list[Id] = Field(
        min_length=1, max_length=MAX_CANDIDATES, description="Their ids in the order shown."
    )


class Click(Event):
    """A reader's click on a story."""

    type: Literal["click"]
    story: Id = Field(description="Its id.")
    impression_id: Id | None = Field(
        None,
        description="The id of the impression in which the story was shown, or of the answer of"
        " /rank. It may arrive later.",
    )


AnyEvent = Annotated[Impression | Click, Field(discriminator="type")]


class EventsRequest(Wire):
    model_config = ConfigDict(json_schema_extra={"examples": [{"events": EVENTS}]})

    events: list[Annotated[AnyEvent, Unvalidated]] = Field(min_length=1, max_length=MAX_SENT)


class EventsAccepted(BaseModel):
    accepted: int = Field(description="How many events are new, and stored now.")
    duplicates: int = Field(description="How many events were known already by their ids.")
