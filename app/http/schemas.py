"""The wire types of our own routes and of the list of models.

Chat and completions use vLLM's types. Those of /experiments are in app/feedback/experiments.py.
"""

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
)
from pydantic_core import PydanticCustomError

from app.models.declared import AliasWeights
from app.settings import MAX_CANDIDATES, MAX_PAIRS, MAX_STORIES, MAX_TITLE_CHARS

EXAMPLE_READER: dict[str, JsonValue] = {
    "history": ["Tesla unveils a cheaper electric car", "SpaceX lands its rocket again"],
    "liked": ["Apple shows its new phone"],
    "disliked": ["Rain expected at the weekend"],
}
EXAMPLE_TARGET: JsonValue = {
    "id": "N1",
    "title": "Microsoft builds a wind farm",
    "category": "finance",
}


class Wire(BaseModel):
    """Unknown fields are rejected: a misspelt one would otherwise pass silently."""

    model_config = ConfigDict(extra="forbid")


def is_visible(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp", "Zs")


def check_visible(title: str) -> str:
    """Raises PydanticCustomError for a title of nothing but white space and invisible marks."""
    if not any(map(is_visible, title)):
        raise PydanticCustomError("blank", "must hold more than white space")
    return title


class Story(Wire):
    """A news story. A plain string is read as its title. Line breaks and other control characters
    in a title or a category are read as spaces."""

    id: str | None = Field(None, max_length=200)
    title: Annotated[str, AfterValidator(check_visible)] = Field(
        min_length=1,
        max_length=MAX_TITLE_CHARS,
        description="It must hold more than white space.",
    )
    category: str | None = Field(None, max_length=200)


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


class ReaderFields(Wire):
    """What is known about a reader. Each list starts with the oldest story."""

    history: Stories = Field([], description="Stories the reader has clicked so far.")
    liked: Stories = Field([], description="Stories the reader clicked when they were shown.")
    disliked: Stories = Field([], description="Stories shown to the reader and not clicked.")


ModelName = Annotated[
    str | None,
    Field(
        description="A model or alias listed by `/v1/models`. If omitted, the default model"
        " answers."
    ),
]
ReaderId = Annotated[
    str | None,
    Field(
        max_length=200,
        description="Where an alias splits readers between models, the same reader always gets the"
        " same model.",
    ),
]


class PredictRequest(ReaderFields):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{**EXAMPLE_READER, "target": EXAMPLE_TARGET}]}
    )

    model: ModelName = None
    reader_id: ReaderId = None
    target: AnyStory


class RankRequest(ReaderFields):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **EXAMPLE_READER,
                    "candidates": [EXAMPLE_TARGET, "Local team wins the cup", "Stocks fall"],
                    "top_k": 2,
                }
            ]
        }
    )

    model: ModelName = None
    reader_id: ReaderId = None
    candidates: list[AnyStory] = Field(min_length=1, max_length=MAX_CANDIDATES)
    top_k: int | None = Field(
        None, ge=1, description="Return only the `top_k` highest-ranked stories."
    )


class Pair(ReaderFields):
    target: AnyStory


class BatchRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"pairs": [{**EXAMPLE_READER, "target": EXAMPLE_TARGET}]}]}
    )

    model: ModelName = None
    reader_id: ReaderId = None
    pairs: list[Pair] = Field(min_length=1, max_length=MAX_PAIRS)


class Usage(BaseModel):
    prompt_tokens: int = Field(
        description="Tokens of all prompts; tokens that prompts share are counted each time."
    )
    cached_tokens: int = Field(
        description="How many of these were not computed: they came from the prefix cache, or the"
        " request repeats a story."
    )


class Envelope(BaseModel):
    """The fields that every answer starts with."""

    id: str = Field(description="The request's id, also in the header `x-request-id`.")
    model: str
    usage: Usage
    latency_ms: float


class Judgement(BaseModel):
    """The prediction for one story."""

    probability: float = Field(ge=0, le=1, description="Calibrated probability of a click.")
    label: Literal["Yes.", "No.", "Unknown"]
    label_mass: float = Field(
        ge=0,
        le=1,
        description="Total probability of the two labels. A low value means the model wanted to"
        " answer something else.",
    )
    history_used: int = Field(description="How many stories of the history the prompt holds.")


class Place(BaseModel):
    id: str | None = Field(description="The candidate's own id, if it had one.")
    index: int = Field(description="The candidate's place in the request, counted from 0.")
    rank: int = Field(description="Place in the ranking. 1 is the most probable click.")


# Pydantic orders fields by base class, from the last to the first.
class PredictResponse(Judgement, Envelope):
    """The answer for one story."""


class RankedStory(Judgement, Place):
    """The answer for one candidate."""


class RankResponse(Envelope):
    results: list[RankedStory]


class BatchResponse(Envelope):
    results: list[Judgement] = Field(description="One result per pair, in the request's order.")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="The field at fault.")
    code: str | None
    request_id: str


class ErrorResponse(BaseModel):
    """OpenAI's error shape, on every route."""

    error: ErrorDetail


class Health(BaseModel):
    status: Literal["ok"]


class AdapterRequest(Wire):
    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={"examples": [{"name": "news-v2", "path": "news-v2"}]},
    )

    name: str = Field(
        max_length=64,
        description="The name under which the adapter will be served. Loading a name again"
        " replaces its adapter.",
    )
    path: str = Field(
        max_length=1000, description="The adapter's folder, below the service's `adapter_root`."
    )


AdapterVersion = Annotated[
    int, Field(description="The version that is served or, if none is, the one that should be.")
]
AdapterState = Annotated[
    Literal["serving", "loading", "failed"],
    Field(
        description="`failed`: the newest version could not be loaded. The one served before, if"
        " any, still is, and the load is tried again."
    ),
]


class Adapter(BaseModel):
    name: str
    version: AdapterVersion
    source: str
    status: AdapterState
    error: str | None = None


class AdapterAtInstance(BaseModel):
    """An adapter at one of the instances that share the store."""

    instance: str
    version: AdapterVersion
    status: AdapterState
    error: str | None = None


class ListedAdapter(Adapter):
    """An adapter at the instance that answers, and at each instance."""

    instances: list[AdapterAtInstance]


class AdapterList(BaseModel):
    adapters: list[ListedAdapter]


class AliasRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"weights": {"news-smollm2": 10, "news-v2": 90}}]}
    )

    weights: AliasWeights = Field(
        description="Share of readers by model name. The shares need not add up to 1."
    )


class Alias(BaseModel):
    alias: str
    weights: dict[str, float]


class AliasList(BaseModel):
    aliases: list[Alias]


class Removed(BaseModel):
    removed: str


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["frontpage"] = "frontpage"
    parent: str | None = Field(None, description="The base model of an adapter.")
    max_model_len: int


class ModelList(BaseModel):
    """In OpenAI's shape. Aliases are listed too."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class FeedbackRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "8d9f2c7e", "index": 0, "clicked": True}]}
    )

    id: str = Field(max_length=128, description="The `id` of the answer.")
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
