"""The use case: what is known → shortlist → language model → ranker."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, TypeVar

import numpy as np

from app.engine.base import Engine
from app.engine.turns import Turns
from app.errors import EngineUnavailable, Overloaded
from app.knowledge.gathering import Knowledge, Pair
from app.knowledge.judging import Judged, Shortlist, judge, shortlist
from app.knowledge.ranking import Ranking
from app.knowledge.shortlists import LAST_S, Shortlists
from app.knowledge.terms import Terms
from app.knowledge.titles import KNOWN_ONLY, LONG_QUEUE
from app.knowledge.watching import Watch
from app.models.language_model import (
    LanguageModel,
    Predictions,
    StoryTooLong,
    count_targets,
    observed,
    off_the_loop,
)
from app.models.registry import Choice, ModelRegistry
from app.observability import metrics
from app.observability.tracing import span
from app.ranker.features import Known
from app.scoring.calibration import NO, Prediction, label_of

Value = TypeVar("Value")

USUAL = Terms()


class Recommender:
    """chance: draws what new stories may be worth, if they are to get a chance."""

    def __init__(
        self,
        engine: Engine,
        models: ModelRegistry,
        turns: Turns,
        knowledge: Knowledge,
        shortlists: Shortlists,
        chance: np.random.Generator | None = None,
    ) -> None:
        self.models = models
        self.turns = turns
        self.knowledge = knowledge
        self.shortlists = shortlists
        self.language_model = LanguageModel(engine, models, turns, shortlists.pace)
        self.chance = chance
        self.watch = Watch()

    async def predict(
        self, choice: Choice, pairs: Sequence[Pair], request_id: str, terms: Terms = USUAL
    ) -> Predictions:
        """Predict the probability that each reader clicks each of their targets, in order.

        With a ranker, the language model may be asked about a shortlist only, if there is one pair.
        Raises StoryTooLong; and Overloaded or EngineUnavailable, unless the terms let the first
        stage answer then.
        """
        if terms.draining and (choice.ranking is None or not terms.may_degrade):
            self.turns.admission.check_draining()
        ranking = choice.ranking
        if ranking is None:
            return observed(await self.language_model.predict(choice, pairs, request_id))
        with (
            self.models.at_work(choice.model),
            started(self._gather(choice.name, ranking, pairs, terms, self._queue(terms))) as known,
        ):
            first = await self._choose(choice, pairs, known, terms)
            chosen = None if first is None else first.chosen
            text, degraded = await self._ask_or_degrade(choice, pairs, chosen, request_id, terms)
            with span("ranker", model=choice.name):
                places = range(count_targets(pairs)) if chosen is None else chosen
                found = np.full(count_targets(pairs), np.nan)
                if text is not None:
                    found[list(places)] = [item.text_probability for item in text.items]
                with metrics.RANKER_SECONDS.labels(choice.name, "wait").time():
                    gathered = await known
                work = partial(judge, ranking, gathered, found, self.chance, first)
                with metrics.RANKER_SECONDS.labels(choice.name, "judge").time():
                    judged = await off_the_loop(work, len(found))
        sizes = [len(targets) for _, targets in pairs]
        self.watch.observe(choice.name, ranking.ranker.description, judged, sizes)
        whole = put_together(choice, text, places, judged)
        return observed(replace(whole, degraded=degraded, explored=self.chance is not None))

    def _queue(self, terms: Terms) -> float:
        """As in TitleVectors.of: titles are not embedded for a request that the language model has
        no room for."""
        if not terms.may_degrade:
            return inf
        return KNOWN_ONLY if self.turns.admission.is_full else LONG_QUEUE

    async def _gather(
        self, model: str, ranking: Ranking, pairs: Sequence[Pair], terms: Terms, queue: float
    ) -> list[Known]:
        """What is known of each pair; without the vectors of new titles while no encoder is loaded,
        or if those take too long."""
        end = terms.deadline - 2 * LAST_S if terms.may_degrade and terms.deadline else None
        gather = partial(self.knowledge.gather, ranking, pairs, terms.at)
        with metrics.RANKER_SECONDS.labels(model, "gather").time():
            if ranking.is_proven or not terms.may_degrade:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(end):
                        return await gather(queue)
            return await gather(KNOWN_ONLY)

    async def _choose(
        self,
        choice: Choice,
        pairs: Sequence[Pair],
        known: asyncio.Task[list[Known]],
        terms: Terms,
    ) -> Shortlist | None:
        """The targets that the language model judges; None for all."""
        count = count_targets(pairs)
        if terms.judge_all or len(pairs) != 1:
            return None
        wanted = terms.shortlist or self.shortlists.usual(choice.model.prompts.profile.shortlist)
        length, limit = self.shortlists.length(min(wanted, count), terms.deadline)
        if length >= count or choice.ranking is None:
            return None
        [(_, stories)] = pairs
        names = [(story.title, story.category) for story in stories]
        [found] = await known
        work = partial(shortlist, choice.ranking, found, names, length, self.chance)
        first = await off_the_loop(work, count)
        metrics.SKIPPED.labels(choice.name, limit).inc(count - len(first.chosen))
        return first

    async def _ask_or_degrade(
        self,
        choice: Choice,
        pairs: Sequence[Pair],
        chosen: list[int] | None,
        request_id: str,
        terms: Terms,
    ) -> tuple[Predictions | None, str | None]:
        """What the language model predicts, or why it can't. Raises as `predict`."""
        asked = pairs
        if chosen is not None:
            [(reader, stories)] = pairs
            asked = [(reader, [stories[index] for index in chosen])]
        if not terms.may_degrade:
            return await self._ask_about(choice, asked, chosen, request_id), None
        end = None if terms.deadline is None else terms.deadline - LAST_S
        try:
            if terms.draining:
                self.turns.admission.check_draining()
            self.turns.admission.check_tokens()  # before prompts are built for nothing
            async with asyncio.timeout_at(end):
                return await self._ask_about(choice, asked, chosen, request_id), None
        except (Overloaded, EngineUnavailable, TimeoutError) as error:
            reason = getattr(error, "reason", "deadline")
        metrics.DEGRADED.labels(choice.name, reason).inc()
        metrics.SKIPPED.labels(choice.name, "degraded").inc(count_targets(asked))
        return None, reason

    async def _ask_about(
        self,
        choice: Choice,
        asked: Sequence[Pair],
        chosen: list[int] | None,
        request_id: str,
    ) -> Predictions:
        try:
            return await self.language_model.predict(choice, asked, request_id)
        except StoryTooLong as error:
            if chosen is None:
                raise
            raise StoryTooLong(str(error), error.pair, chosen[error.target]) from None


def put_together(
    choice: Choice, given: Predictions | None, places: Sequence[int], judged: Judged
) -> Predictions:
    """given: what the language model predicts for the targets at `places`, if it was asked."""
    profile = choice.model.prompts.profile
    asked = dict(zip(places, given.items, strict=True)) if given is not None else {}
    unasked = Prediction(0.0, None, NO, None, 0)
    items = []
    for index, probability in enumerate(judged.probability.tolist()):
        item = asked.get(index, unasked)
        text, mass = item.text_probability, item.label_mass
        label = label_of(probability, mass, profile)
        items.append(Prediction(probability, text, label, mass, item.history_used))
    found = given or Predictions(choice.name, choice.alias, [], 0, 0)
    return replace(found, items=items, judged=judged)


@contextmanager
def started(work: Coroutine[Any, Any, Value]) -> Iterator[asyncio.Task[Value]]:
    """Let work begin; it is cancelled if nobody has awaited it in the end, and what it raised then
    counts for nothing."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        if not task.cancel() and not task.cancelled():
            task.exception()
