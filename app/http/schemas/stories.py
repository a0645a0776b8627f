"""Stories on the wire: in requests for predictions, and those that a site sends to be kept."""

import unicodedata
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic_core import PydanticCustomError

from app.http.schemas.base import Unvalidated, Wire
from app.settings import MAX_STORIES, MAX_TITLE_CHARS

MAX_ID_CHARS = 200
ID_CHARS = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters: the store relies on that, and PostgreSQL has no NUL."""
MAX_SENT = 10_000
"""How many stories or events one request may send."""
MIN_TIME, MAX_TIME = -62_135_596_800.0, 253_402_300_799.0
"""The years 1 to 9999 in seconds since 1970."""


def is_visible(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp", "Zs")


def check_visible(title: str) -> str:
    """Raises PydanticCustomError for a title of nothing but white space and invisible marks."""
    if not any(map(is_visible, title)):
        raise PydanticCustomError("blank", "must hold more than white space")
    return title


def to_seconds(value: Any) -> Any:
    """Seconds since 1970 of an ISO 8601 text; anything else as it is. Raises
    PydanticCustomError."""
    if isinstance(value, bool):
        raise PydanticCustomError("time", "must be ISO 8601 or seconds since 1970")
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("time", "must be ISO 8601 or seconds since 1970") from None
    if found.tzinfo is None:
        raise PydanticCustomError("time", "needs a time zone, such as Z or +02:00")
    return found.timestamp()


Title = Annotated[
    str, Field(min_length=1, max_length=MAX_TITLE_CHARS), AfterValidator(check_visible)
]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS, pattern=ID_CHARS)]
Category = Annotated[str, Field(max_length=200)]
Time = Annotated[
    float,
    Field(ge=MIN_TIME, le=MAX_TIME, allow_inf_nan=False),
    BeforeValidator(to_seconds, json_schema_input_type=AwareDatetime | float),
]
"""Seconds since 1970. On the wire also ISO 8601 with a time zone."""


class Story(Wire):
    """A news story. A plain string is read as its title. A story with an `id` and no title is the
    one that the service has stored. Line breaks and other control characters in a title or a
    category are read as spaces."""

    id: str | None = Field(
        None,
        max_length=MAX_ID_CHARS,
        pattern=ID_CHARS,
        description="It can't hold control characters.",
    )
    title: Title | None = Field(
        None,
        description="It must hold more than white space. Needed for a story that is not stored.",
    )
    category: Category | None = None


def from_title(value: Any) -> Any:
    return {"title": value} if isinstance(value, str) else value


AnyStory = Annotated[
    Story,
    BeforeValidator(
        from_title,
        json_schema_input_type=Annotated[str, Field(min_length=1, max_length=MAX_TITLE_CHARS)]
        | Story,
    ),
]
Stories = Annotated[list[AnyStory], Field(max_length=MAX_STORIES)]


class SentStory(Wire):
    """A story to be stored. Control characters in its title and category are stored as spaces."""

    id: Id = Field(description="It can't hold control characters.")
    title: Title = Field(description="It must hold more than white space.")
    category: Category | None = None
    published_at: Time | None = Field(
        None, description="ISO 8601 with a time zone, or seconds since 1970."
    )


class StoriesRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "stories": [
                        {
                            "id": "N1",
                            "title": "Microsoft builds a wind farm",
                            "category": "finance",
                            "published_at": "2026-03-01T06:30:00Z",
                        }
                    ]
                }
            ]
        }
    )

    stories: list[Annotated[SentStory, Unvalidated]] = Field(min_length=1, max_length=MAX_SENT)


class StoriesStored(BaseModel):
    stored: int = Field(description="How many different stories the request held.")


class LiveFigure(BaseModel):
    """What readers made of a story, at all instances. Older clicks and impressions weigh less if
    `live_half_life_hours` says so."""

    impressions: int = Field(description="How often it was shown. Nothing loses weight here.")
    clicks: float
    expected_clicks: float = Field(
        description="What the site's average story would have got in the same places."
    )
    first_shown: datetime


class KeptStory(BaseModel):
    """A story as it is stored."""

    id: str
    title: str
    category: str | None
    published_at: datetime | None


class StoryWithFigure(KeptStory):
    live: LiveFigure | None = Field(description="Null if it was not shown or has no live figures.")
