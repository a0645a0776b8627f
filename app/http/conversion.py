"""Conversion of requests' wire types to ours, and of predictions to wire types."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from app.errors import InvalidValue
from app.http.records import check_title, cleaned, live_figure
from app.http.schemas.predictions import MAX_EXPLAINED, Explanation, ReaderFields, Usage
from app.http.schemas.stories import Story
from app.models.language_model import Predictions
from app.scoring.calibration import Prediction
from app.scoring.wording import Reader, one_line
from app.scoring.wording import Story as PromptStory
from app.service import Service
from app.settings import Limits
from app.store.reading import Past
from app.store.records import Remembered, StoredStory, title_id

LISTS = ("history", "liked", "disliked")
PAST = frozenset(LISTS)


class Conversion:
    """The conversion of one request's stories and readers. What the request leaves out, texts of
    stories and the reader's history, is the store's."""

    def __init__(
        self,
        limits: Limits,
        stories: Mapping[str, StoredStory],
        past: Past,
    ) -> None:
        self._limits = limits
        self._stories = stories
        self._past = past

    @classmethod
    async def prepare(
        cls,
        service: Service,
        reader_id: str | None,
        readers: Sequence[ReaderFields],
        targets: Sequence[Story],
    ) -> Self:
        """Read from the store what a request leaves out. Raises StoreUnavailable."""
        sent = [*targets, *(story for reader in readers for story in stories_of(reader))]
        ids = {story.id for story in sent if story.title is None and story.id}
        reads = service.store.reads
        stories = await reads.stories(ids) if ids else {}
        without = any(PAST - reader.model_fields_set for reader in readers)
        past = await reads.past(reader_id) if reader_id and without else Past()
        return cls(service.settings.limits, stories, past)

    def story(self, sent: Story, field: str) -> PromptStory:
        """field: the story's name in the request, for errors. Raises InvalidValue."""
        if sent.title is not None:
            check_title(sent.title, self._limits, field)
            title, category = cleaned(sent.title, sent.category)
            return PromptStory(title, category, sent.id or title_id(title))
        if not sent.id:
            name = f"{field}.title"
            raise InvalidValue(f"{name}: needed, or the id of a stored story", name)
        found = self._stories.get(sent.id)
        if found is None:
            name = f"{field}.id"
            raise InvalidValue(f"{name}: no story {sent.id!r} is stored; send its title", name)
        category = one_line(sent.category) if sent.category else found.category
        return PromptStory(found.title, category, found.id)

    def reader(self, sent: ReaderFields, prefix: str = "") -> Reader:
        """prefix: of the fields' names in errors. Raises InvalidValue."""
        history, liked, disliked = (
            self._list(getattr(sent, name), f"{prefix}{name}") for name in LISTS
        )
        given, past = sent.model_fields_set, self._past
        if "history" not in given:
            history = [PromptStory(one.title, one.category, one.id) for one in past.history]
        return Reader(
            history,
            liked,
            disliked,
            passed=[story.id for story in disliked] if "disliked" in given else past.passed,
            clicked=[story.id for story in liked] if "liked" in given else past.clicked,
        )

    def _list(self, sent: list[Story], name: str) -> list[PromptStory]:
        most = self._limits.max_stories
        if len(sent) > most:
            raise InvalidValue(f"{name}: at most {most} stories here", name)
        return [self.story(one, f"{name}.{number}") for number, one in enumerate(sent)]


def stories_of(reader: ReaderFields) -> list[Story]:
    return [*reader.history, *reader.liked, *reader.disliked]


Sent = tuple[Story, PromptStory]
"""A story as it was sent and as it is meant."""


def sent_history(sent: ReaderFields, meant: Reader) -> list[Sent] | None:
    """None if none was sent."""
    if "history" not in sent.model_fields_set:
        return None
    return list(zip(sent.history, meant.history, strict=True))


def remembered(
    reader_id: str | None, shown: Sequence[Sent], history: Sequence[Sent] | None
) -> Remembered:
    """What a request carried. history: None if none was sent."""
    every = [*shown, *(history or ())]
    return Remembered(
        reader_id or None,
        [stored_story(one) for one in shown],
        None if history is None else [stored_story(one) for one in history],
        frozenset(sent.id for sent, _ in every if sent.title is None and sent.id),
    )


def stored_story(one: Sent) -> StoredStory:
    """A story without an id gets one that its title determines."""
    _, meant = one
    return StoredStory(meant.id, meant.title, meant.category)


def judged(prediction: Prediction) -> dict[str, Any]:
    """The fields of a Judgement that every prediction has."""
    return {
        "probability": prediction.probability,
        "text_probability": prediction.text_probability,
        "stage": "signals" if prediction.text_probability is None else "text",
        "label": prediction.label,
        "label_mass": prediction.label_mass,
        "history_used": prediction.history_used,
    }


def explained(
    service: Service,
    predictions: Predictions,
    stories: Sequence[PromptStory],
    targets: Sequence[int],
) -> dict[int, dict[str, Any]]:
    """The fields that `explain` adds to the first MAX_EXPLAINED of these targets, by index.
    stories: all targets'."""
    chosen = targets[:MAX_EXPLAINED]
    if not chosen:
        return {}
    now = service.store.database.now()
    ids = [stories[index].id or "" for index in chosen]
    figures = service.live.figures(ids, [stories[index].category for index in chosen], now)
    found: dict[int, dict[str, Any]] = {
        index: {"live": live_figure(figures, now, row)} for row, index in enumerate(chosen)
    }
    if predictions.judged is not None:
        for index, one in zip(chosen, predictions.judged.explain(chosen), strict=True):
            found[index]["explanation"] = Explanation(baseline=one.baseline, **one.groups)
    return found


def usage(predictions: Predictions) -> Usage:
    return Usage(prompt_tokens=predictions.prompt_tokens, cached_tokens=predictions.cached_tokens)
