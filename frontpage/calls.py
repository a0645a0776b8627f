"""The calls of the client, one function for each route, named like it in docs/openapi.json.

A call says what to send and what the answer is; frontpage/client.py sends it. The service checks
what is sent, so that there is one place that knows what is allowed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel

from app.feedback.figures import ExperimentsResponse
from app.http.schemas.base import Removed
from app.http.schemas.events import Click, EventsAccepted, Impression
from app.http.schemas.feedback import FeedbackResponse
from app.http.schemas.models import Adapter, AdapterList, Alias, AliasList
from app.http.schemas.predictions import BatchResponse, Pair, PredictResponse, RankResponse
from app.http.schemas.readers import ErasedReader, ErasedStory, KnownReader
from app.http.schemas.recommendations import RecommendResponse
from app.http.schemas.stories import SentStory, StoriesStored, Story, StoryWithFigure

Answer = TypeVar("Answer", bound=BaseModel)
Fields = Mapping[str, Any]
AnyStory = str | Story | Fields
"""A title, or the fields of a story: `id`, `title` and `category`."""
Time = datetime | str | float
"""With a time zone, in ISO 8601 with a time zone, or in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """answer: its type. timeout_s: the call's deadline, or None for the client's."""

    answer: type[Answer]
    method: str
    path: str
    timeout_s: float | None
    body: Fields | None = None
    query: Mapping[str, str | float] | None = None


class BatchOptions(TypedDict, total=False):
    """The fields of /predict/batch beside its pairs; docs/api.md describes them."""

    model: str | None
    reader_id: str | None
    ranker: bool
    explain: bool
    degraded: Literal["allow", "refuse"]
    time: Time | None


class PredictOptions(BatchOptions, total=False):
    """Those of /predict beside the target."""

    history: Sequence[AnyStory]
    liked: Sequence[AnyStory]
    disliked: Sequence[AnyStory]


class RankOptions(PredictOptions, total=False):
    """Those of /rank beside the candidates."""

    top_k: int | None
    shortlist: int | Literal["all"] | None


class RecommendOptions(PredictOptions, total=False):
    """Those of /recommend."""

    top_k: int
    shortlist: int | Literal["all"] | None
    exclude: Sequence[str]
    published_within_hours: float | None
    categories: Sequence[str] | None


def predict(
    target: AnyStory, *, timeout_s: float | None = None, **options: Unpack[PredictOptions]
) -> Call[PredictResponse]:
    """Predict the probability that a reader clicks one story."""
    return Call(PredictResponse, "POST", "/predict", timeout_s, {"target": target, **options})


def predict_batch(
    pairs: Sequence[Pair | Fields],
    *,
    timeout_s: float | None = None,
    **options: Unpack[BatchOptions],
) -> Call[BatchResponse]:
    """Predict clicks for many pairs of a reader and a story."""
    return Call(BatchResponse, "POST", "/predict/batch", timeout_s, {"pairs": pairs, **options})


def rank(
    candidates: Sequence[AnyStory],
    *,
    timeout_s: float | None = None,
    **options: Unpack[RankOptions],
) -> Call[RankResponse]:
    """Rank candidates for one reader, the most probable click first."""
    return Call(RankResponse, "POST", "/rank", timeout_s, {"candidates": candidates, **options})


def recommend(
    *, timeout_s: float | None = None, **options: Unpack[RecommendOptions]
) -> Call[RecommendResponse]:
    """Recommend stored stories to a reader, the most probable click first."""
    return Call(RecommendResponse, "POST", "/recommend", timeout_s, options)


def give_feedback(
    id: str, *, clicked: bool, index: int = 0, timeout_s: float | None = None
) -> Call[FeedbackResponse]:
    """Report whether a story of an answer was clicked. id: the answer's. index: the story's place
    in the request."""
    body = {"id": id, "index": index, "clicked": clicked}
    return Call(FeedbackResponse, "POST", "/feedback", timeout_s, body)


def post_events(
    events: Iterable[Impression | Click | Fields], *, timeout_s: float | None = None
) -> Call[EventsAccepted]:
    """Store up to 10,000 impressions and clicks. One without an `id` gets one here, so that it
    counts once even if it is sent again."""
    body = {"events": [{"id": uuid4().hex, **fields_of(one)} for one in events]}
    return Call(EventsAccepted, "POST", "/events", timeout_s, body)


def fields_of(sent: BaseModel | Fields) -> Fields:
    return sent.model_dump(exclude_unset=True) if isinstance(sent, BaseModel) else sent


def put_stories(
    stories: Iterable[SentStory | Fields], *, timeout_s: float | None = None
) -> Call[StoriesStored]:
    """Store up to 10,000 stories, so that requests can name them by their ids alone."""
    return Call(StoriesStored, "PUT", "/stories", timeout_s, {"stories": [*stories]})


def get_story(story_id: str, *, timeout_s: float | None = None) -> Call[StoryWithFigure]:
    """A story as it is stored, and how often it was shown and clicked so far."""
    return Call(StoryWithFigure, "GET", f"/stories/{quoted(story_id)}", timeout_s)


def delete_story(story_id: str, *, timeout_s: float | None = None) -> Call[ErasedStory]:
    """Erase a story and the clicks on it."""
    return Call(ErasedStory, "DELETE", f"/stories/{quoted(story_id)}", timeout_s)


def get_reader(reader_id: str, *, timeout_s: float | None = None) -> Call[KnownReader]:
    """What is known about a reader: the stories clicked last, and how much is kept."""
    return Call(KnownReader, "GET", f"/readers/{quoted(reader_id)}", timeout_s)


def delete_reader(reader_id: str, *, timeout_s: float | None = None) -> Call[ErasedReader]:
    """Erase all impressions and clicks of a reader."""
    return Call(ErasedReader, "DELETE", f"/readers/{quoted(reader_id)}", timeout_s)


def list_adapters(*, timeout_s: float | None = None) -> Call[AdapterList]:
    """The adapters, at each instance."""
    return Call(AdapterList, "GET", "/adapters", timeout_s)


def load_adapter(name: str, path: str, *, timeout_s: float | None = None) -> Call[Adapter]:
    """Load the adapter in the folder `path`, below the service's `adapter_root`, and serve it."""
    return Call(Adapter, "POST", "/adapters", timeout_s, {"name": name, "path": path})


def unload_adapter(name: str, *, timeout_s: float | None = None) -> Call[Removed]:
    """Unload an adapter, at all instances, once its requests have finished."""
    return Call(Removed, "DELETE", f"/adapters/{quoted(name)}", timeout_s)


def list_aliases(*, timeout_s: float | None = None) -> Call[AliasList]:
    """The aliases and the weights of their models."""
    return Call(AliasList, "GET", "/aliases", timeout_s)


def set_alias(
    alias: str, weights: Mapping[str, float], *, timeout_s: float | None = None
) -> Call[Alias]:
    """Create or change an alias. weights: model → share of readers."""
    return Call(Alias, "PUT", f"/aliases/{quoted(alias)}", timeout_s, {"weights": weights})


def remove_alias(alias: str, *, timeout_s: float | None = None) -> Call[Removed]:
    """Remove an alias."""
    return Call(Removed, "DELETE", f"/aliases/{quoted(alias)}", timeout_s)


def experiments(
    *,
    days: float | None = None,
    since: datetime | None = None,
    timeout_s: float | None = None,
) -> Call[ExperimentsResponse]:
    """What feedback says about each model, of the last days or from a time on."""
    query: dict[str, str | float] = {} if days is None else {"days": days}
    if since is not None:
        query["since"] = since.isoformat()
    return Call(ExperimentsResponse, "GET", "/experiments", timeout_s, query=query)


def quoted(name: str) -> str:
    """A name as one part of a path, whatever it holds."""
    return quote(name, safe="")
