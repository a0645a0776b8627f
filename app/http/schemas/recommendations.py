"""The wire types of /recommend."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.http.schemas.predictions import (
    Envelope,
    Judgement,
    JudgingFields,
    ModelName,
    ReaderFields,
    ReaderId,
    Shortlist,
)
from app.http.schemas.stories import Category, Id
from app.retrieval.sources import Source
from app.settings import MAX_CANDIDATES

MAX_EXCLUDED, MAX_CATEGORIES = 1000, 100
MAX_HOURS = 1e6
DEFAULT_TOP_K = 10


class RecommendRequest(JudgingFields, ReaderFields):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "history": ["Tesla unveils a cheaper electric car"],
                    "top_k": 5,
                    "exclude": ["N7"],
                    "published_within_hours": 48,
                }
            ]
        }
    )

    model: ModelName = None
    reader_id: ReaderId = None
    top_k: int = Field(
        DEFAULT_TOP_K,
        ge=1,
        le=MAX_CANDIDATES,
        description="How many stories to recommend at most. There are fewer if fewer are found.",
    )
    exclude: list[Id] = Field(
        [], max_length=MAX_EXCLUDED, description="Ids of stories not to recommend."
    )
    published_within_hours: (
        Annotated[float, Field(gt=0, le=MAX_HOURS, allow_inf_nan=False)] | None
    ) = Field(
        None,
        description="Only stories published so lately, before `time` or now. Stories that were"
        " sent without `published_at` are left out then.",
    )
    categories: Annotated[list[Category], Field(min_length=1, max_length=MAX_CATEGORIES)] | None = (
        Field(None, description="Only stories of these categories. Default: of all.")
    )
    shortlist: Shortlist = None


class RecommendedPlace(BaseModel):
    id: str
    title: str
    category: str | None
    published_at: datetime | None
    index: int = Field(description="The story's place in this answer from 0, for `/feedback`.")
    rank: int = Field(description="Place in the ranking. 1 is the most probable click.")
    source: Source = Field(
        description="Why the story was a candidate: `similar` to what the reader clicked lately,"
        " `popular` right now, or `new`: nobody has been shown it."
    )


class RecommendedStory(Judgement, RecommendedPlace):
    """A story for the reader."""


class RecommendResponse(Envelope):
    explored: bool = Field(
        description="The order gives new stories a chance (setting `explore`), so it is not that of"
        " the probabilities."
    )
    candidates: int = Field(description="How many stories were candidates.")
    results: list[RecommendedStory] = Field(
        description="The best first; empty if no stored story fits the request."
    )
