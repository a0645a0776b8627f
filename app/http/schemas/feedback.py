"""The wire types of feedback."""

from pydantic import BaseModel, ConfigDict, Field

from app.http.schemas.base import Wire
from app.http.schemas.stories import ID_CHARS


class FeedbackRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "8d9f2c7e", "index": 0, "clicked": True}]}
    )

    id: str = Field(max_length=128, pattern=ID_CHARS, description="The `id` of the answer.")
    index: int = Field(
        0,
        ge=0,
        lt=1 << 16,
        description="The story's place in the request, counted from 0. For /predict it is 0.",
    )
    clicked: bool


class FeedbackResponse(BaseModel):
    id: str
    index: int
    model: str = Field(description="The model that gave the answer.")
    clicked: bool
