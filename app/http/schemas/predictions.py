"""The wire types of /predict, /predict/batch and /rank."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.http.schemas.base import Wire
from app.http.schemas.stories import AnyStory, LiveFigure, Stories, Time
from app.settings import MAX_CANDIDATES, MAX_PAIRS

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


class ReaderFields(Wire):
    """What is known about a reader. Each list starts with the oldest story."""

    history: Stories = Field(
        [],
        description="Stories the reader has clicked so far. If it is omitted, and the request has a"
        " `reader_id`, the reader's clicks that the service has stored are used.",
    )
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
        description="Names the reader: where an alias splits readers between models, the same"
        " reader always gets the same model, and what the reader clicked before takes the place of"
        " a `history` that is not sent.",
    ),
]


Shortlist = Annotated[
    Annotated[int, Field(ge=1)] | Literal["all"] | None,
    Field(
        description="How many candidates the language model judges: those that the ranker's first"
        " stage likes best. The others follow them. Default: the setting `shortlist`.",
    ),
]


MAX_EXPLAINED = 50


class JudgingFields(Wire):
    """How the stories of a request are judged."""

    ranker: bool = Field(
        True,
        description="False: the language model judges alone, even if the model has a ranker. The"
        " same is asked for by `:text` after a model's name, in `model` or in an alias's weights.",
    )
    explain: bool = Field(
        False,
        description="Say what adds to each probability, and how often the story was shown and"
        f" clicked, for the first {MAX_EXPLAINED} stories of the answer.",
    )
    degraded: Literal["allow", "refuse"] = Field(
        "allow",
        description="Whether signals alone may answer while the language model can't, where the"
        " setting `degraded` allows it. With `refuse` the answer is 503 or 504 then.",
    )
    time: Time | None = Field(
        None,
        description="The moment to judge for: ISO 8601 with a time zone, or seconds since 1970. For"
        " replays of past traffic; live figures count all that is known by now. Default: now.",
    )


class PredictRequest(JudgingFields, ReaderFields):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{**EXAMPLE_READER, "target": EXAMPLE_TARGET}]}
    )

    model: ModelName = None
    reader_id: ReaderId = None
    target: AnyStory


class RankRequest(JudgingFields, ReaderFields):
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
    shortlist: Shortlist = None


class Pair(ReaderFields):
    target: AnyStory


class BatchRequest(JudgingFields):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"pairs": [{**EXAMPLE_READER, "target": EXAMPLE_TARGET}]}]}
    )

    model: ModelName = None
    reader_id: Annotated[
        ReaderId, Field(description="As for /predict; it is the reader of all pairs.")
    ] = None
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
    ranker: bool = Field(
        description="Whether a ranker made the probabilities, of all that is known. If not, they"
        " are the language model's alone."
    )
    degraded: bool = Field(
        description="The language model could not be asked, so that signals alone made this answer."
    )


class Explanation(BaseModel):
    """What makes a probability, in log-odds: the sum of all is ln(p / (1 − p)). Each group's
    features are listed in docs/ranker.md."""

    baseline: float = Field(description="Of the average story, before anything is known.")
    live: float = Field(description="What readers make of the story right now.")
    likeness: float = Field(description="How much it is like what the reader has clicked.")
    category: float = Field(description="How often the reader clicks its category.")
    reader: float = Field(description="What is known of the reader, and the hour.")
    text: float = Field(description="The language model's judgement.")


class Judgement(BaseModel):
    """The prediction for one story."""

    probability: float = Field(ge=0, le=1, description="Calibrated probability of a click.")
    text_probability: float | None = Field(
        ge=0, le=1, description="The same by the language model alone; null if it was not asked."
    )
    stage: Literal["text", "signals"] = Field(
        description="`text`: the language model's judgement is part of the probability. `signals`:"
        " it was not asked about this story; in a ranking, all of these follow the others."
    )
    label: Literal["Yes.", "No.", "Unknown"]
    label_mass: float | None = Field(
        ge=0,
        le=1,
        description="Total probability of the two labels. A low value means the model wanted to"
        " answer something else. Null if it was not asked.",
    )
    history_used: int = Field(description="How many stories of the history the prompt holds.")
    explanation: Explanation | None = Field(
        None, description="With `explain`, if a ranker made the probability."
    )
    live: LiveFigure | None = Field(
        None,
        description="With `explain`: how often the story was shown and clicked so far. Null if it"
        " was not shown.",
    )


class Place(BaseModel):
    id: str = Field(
        description="The candidate's own id, or the one that its title gives it. Events name the"
        " story by it."
    )
    index: int = Field(description="The candidate's place in the request, counted from 0.")
    rank: int = Field(description="Place in the ranking. 1 is the most probable click.")


# Pydantic orders fields by base class, from the last to the first.
class PredictResponse(Judgement, Envelope):
    """The answer for one story."""


class RankedStory(Judgement, Place):
    """The answer for one candidate."""


class RankResponse(Envelope):
    explored: bool = Field(
        description="The order gives new stories a chance (setting `explore`), so it is not that of"
        " the probabilities."
    )
    results: list[RankedStory]


class BatchResponse(Envelope):
    results: list[Judgement] = Field(description="One result per pair, in the request's order.")
