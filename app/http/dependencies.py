"""What handlers share: what they take from the application, and wire types to ours and back."""

import time
from typing import Annotated, Any

from fastapi import Depends, Request

from app.errors import Unprocessable
from app.http.schemas import ErrorResponse, Judgement, ReaderFields, Story, Usage
from app.models.registry import Choice, ModelRegistry
from app.recommender import Judged, Recommender
from app.scoring.wording import Reader
from app.scoring.wording import Story as PromptStory
from app.settings import Limits

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


def limits(request: Request) -> Limits:
    found: Limits = request.app.state.settings.limits
    return found


LimitsDep = Annotated[Limits, Depends(limits)]


def story(sent: Story, limits: Limits, field: str) -> PromptStory:
    """`field`: the story's place in the request, for errors."""
    if len(sent.title) > limits.max_title_chars:
        name = f"{field}.title"
        raise Unprocessable(f"{name}: at most {limits.max_title_chars} characters here", name)
    return PromptStory(sent.title, sent.category)


def reader(sent: ReaderFields, limits: Limits, prefix: str = "") -> Reader:
    """`prefix`: of the fields' names in the request, for errors."""

    def stories(name: str, found: list[Story]) -> list[PromptStory]:
        if len(found) > limits.max_stories:
            raise Unprocessable(f"{name}: at most {limits.max_stories} stories here", name)
        return [story(one, limits, f"{name}.{number}") for number, one in enumerate(found)]

    return Reader(
        stories(f"{prefix}history", sent.history),
        stories(f"{prefix}liked", sent.liked),
        stories(f"{prefix}disliked", sent.disliked),
    )


def judgement(judged: Judged, index: int) -> Judgement:
    answer = judged.answers[index]
    return Judgement(
        probability=answer.probability,
        label=answer.label,
        label_mass=answer.label_mass,
        history_used=judged.history_used[index],
    )


def usage(judged: Judged) -> Usage:
    return Usage(prompt_tokens=judged.prompt_tokens, cached_tokens=judged.cached_tokens)


def latency_ms(request: Request) -> float:
    started: float = request.state.started
    return round((time.perf_counter() - started) * 1e3, 3)
