"""The wire types of what is known about readers, and of erasures."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.http.schemas.stories import KeptStory


class KnownReader(BaseModel):
    """What is known about a reader."""

    reader_id: str
    history: list[KeptStory] = Field(
        description="The stories clicked last, oldest first, each once: at most 50, and only those"
        " whose titles are stored."
    )
    impressions: int
    clicks: int
    first: datetime = Field(description="The time of the first impression or click kept.")
    last: datetime


class ErasedReader(BaseModel):
    """How many rows were removed."""

    impressions: int
    clicks: int


class ErasedStory(BaseModel):
    """How many rows were removed."""

    stories: int
    clicks: int
