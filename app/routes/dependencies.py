"""What handlers take from the application."""

import time
from typing import Annotated, Any

from fastapi import Depends, Request

from app.models import Choice, ModelRegistry
from app.recommender import Judged, Recommender
from app.schemas import ErrorResponse, ReaderFields, Story, Usage
from app.scoring.prompt import Reader
from app.scoring.prompt import Story as PromptStory

ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "No such model"},
    413: {"model": ErrorResponse, "description": "The body is too large"},
    422: {"model": ErrorResponse, "description": "A field is wrong; `param` names it"},
    503: {"model": ErrorResponse, "description": "Overloaded, or the engine can't answer"},
    504: {"model": ErrorResponse, "description": "The request's time was over"},
}


def recommender(request: Request) -> Recommender:
    found: Recommender = request.app.state.recommender
    return found


RecommenderDep = Annotated[Recommender, Depends(recommender)]


def choose(request: Request, name: str | None, reader_id: str | None) -> Choice:
    """The model that answers this request. Raises ModelNotFound."""
    models: ModelRegistry = request.app.state.models
    choice = models.choose(name, reader_id or request.state.request_id)
    request.state.model = choice.model.name
    return choice


def story(sent: Story) -> PromptStory:
    return PromptStory(sent.title, sent.category)


def reader(sent: ReaderFields) -> Reader:
    return Reader(
        [story(one) for one in sent.history],
        [story(one) for one in sent.liked],
        [story(one) for one in sent.disliked],
    )


def usage(judged: Judged) -> Usage:
    return Usage(prompt_tokens=judged.prompt_tokens, cached_tokens=judged.cached_tokens)


def latency_ms(request: Request) -> float:
    started: float = request.state.started
    return round((time.perf_counter() - started) * 1e3, 3)
