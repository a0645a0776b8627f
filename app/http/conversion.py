"""Wire types to ours, and predictions to wire types."""

from app.errors import InvalidValue
from app.http.schemas import Judgement, RankedStory, ReaderFields, Story, Usage
from app.recommender import Predictions
from app.scoring.calibration import Prediction
from app.scoring.wording import Reader
from app.scoring.wording import Story as PromptStory
from app.settings import Limits


def story(sent: Story, limits: Limits, field: str) -> PromptStory:
    """field: the story's place in the request, for errors. Raises InvalidValue."""
    if len(sent.title) > limits.max_title_chars:
        name = f"{field}.title"
        raise InvalidValue(f"{name}: at most {limits.max_title_chars} characters here", name)
    return PromptStory(sent.title, sent.category)


def reader(sent: ReaderFields, limits: Limits, prefix: str = "") -> Reader:
    """prefix: of the fields' names in the request, for errors. Raises InvalidValue."""

    def stories(name: str, found: list[Story]) -> list[PromptStory]:
        if len(found) > limits.max_stories:
            raise InvalidValue(f"{name}: at most {limits.max_stories} stories here", name)
        return [story(one, limits, f"{name}.{number}") for number, one in enumerate(found)]

    return Reader(
        stories(f"{prefix}history", sent.history),
        stories(f"{prefix}liked", sent.liked),
        stories(f"{prefix}disliked", sent.disliked),
    )


def judgement(prediction: Prediction) -> Judgement:
    return Judgement(
        probability=prediction.probability,
        label=prediction.label,
        label_mass=prediction.label_mass,
        history_used=prediction.history_used,
    )


def ranked_story(prediction: Prediction, sent: Story, index: int, rank: int) -> RankedStory:
    """index: the story's place in the request, from 0. rank: in the answer, from 1."""
    return RankedStory(
        id=sent.id,
        index=index,
        rank=rank,
        probability=prediction.probability,
        label=prediction.label,
        label_mass=prediction.label_mass,
        history_used=prediction.history_used,
    )


def usage(predictions: Predictions) -> Usage:
    return Usage(prompt_tokens=predictions.prompt_tokens, cached_tokens=predictions.cached_tokens)
