"""The use case: model → profile → prompts → engine → calibrated predictions → ranker."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, TypeVar

import numpy as np

from app.engine.base import Engine, LabelScore
from app.engine.turns import Turns
from app.errors import EngineUnavailable, Overloaded
from app.knowledge.gathering import Knowledge, Pair
from app.knowledge.judging import Judged, judge, shortlist
from app.knowledge.ranking import Ranking
from app.knowledge.shortlists import LAST_S, Shortlists
from app.knowledge.terms import Terms
from app.knowledge.titles import KNOWN_ONLY, LONG_QUEUE
from app.knowledge.watching import Watch
from app.models.registry import Choice, ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.tracing import note, span
from app.ranker.features import Known
from app.scoring.calibration import NO, Prediction, label_of, predict
from app.scoring.encoder import Tokens
from app.scoring.prompt import Prompt, PromptTooLong
from app.scoring.ranking import order

Value = TypeVar("Value")

USUAL = Terms()

MAX_INLINE_TARGETS = 100
"""From so many targets on, prompts are built and targets judged in a thread, so as not to block
other requests. Fewer take a millisecond, and the way to another thread and back takes longer."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """One model's predictions for a request.

    alias: the alias that the request named, if any. items: one per target, in the request's order.
    Targets with the same prompt share the language model's answer. judged: what the ranker made of
    it; None without one. explored: the order gives new stories a chance. degraded: why the language
    model was not asked, if it should have been. prompt_tokens, cached_tokens: sums over all targets
    it was asked about; those of a prompt's repetitions count as cached.
    """

    model: str
    alias: str | None
    items: list[Prediction]
    prompt_tokens: int
    cached_tokens: int
    judged: Judged | None = None
    explored: bool = False
    degraded: str | None = None

    @property
    def order(self) -> list[int]:
        """The targets' indices, the best first. Ties keep their order."""
        if self.judged is None:
            return order([item.probability for item in self.items])
        return self.judged.order


class StoryTooLong(ValueError):
    """A target does not fit into the model's context. pair, target: its indices in the request."""

    def __init__(self, message: str, pair: int, target: int) -> None:
        super().__init__(message)
        self.pair = pair
        self.target = target


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
        self.engine = engine
        self.models = models
        self.turns = turns
        self.knowledge = knowledge
        self.shortlists = shortlists
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
            return observed(await self._ask(choice, pairs, request_id))
        with (
            self.models.at_work(choice.model),
            started(self._gather(choice.name, ranking, pairs, terms, self._queue(terms))) as known,
        ):
            chosen = await self._choose(choice, pairs, known, terms)
            text, degraded = await self._ask_or_degrade(choice, pairs, chosen, request_id, terms)
            with span("ranker", model=choice.name):
                places = range(count_targets(pairs)) if chosen is None else chosen
                found = np.full(count_targets(pairs), np.nan)
                if text is not None:
                    found[list(places)] = [item.text_probability for item in text.items]
                with metrics.RANKER_SECONDS.labels(choice.name, "wait").time():
                    gathered = await known
                work = partial(judge, ranking, gathered, found, self.chance)
                with metrics.RANKER_SECONDS.labels(choice.name, "judge").time():
                    judged = await self._off_the_loop(work, len(found))
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
    ) -> list[int] | None:
        """The indices of the targets that the language model judges; None for all."""
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
        chosen = await self._off_the_loop(work, count)
        metrics.SKIPPED.labels(choice.name, limit).inc(count - len(chosen))
        return chosen

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
            return await self._ask(choice, asked, request_id)
        except StoryTooLong as error:
            if chosen is None:
                raise
            raise StoryTooLong(str(error), error.pair, chosen[error.target]) from None

    async def _off_the_loop(self, work: Callable[[], Value], targets: int) -> Value:
        """In a thread, unless there is little to do."""
        return work() if targets < MAX_INLINE_TARGETS else await asyncio.to_thread(work)

    async def _ask(self, choice: Choice, pairs: Sequence[Pair], request_id: str) -> Predictions:
        """What the language model predicts."""
        model = choice.model
        with self.models.at_work(model):
            with span("prompt", model=model.name):
                work = partial(self._prompts, model, pairs)
                asked, places = await self._off_the_loop(work, count_targets(pairs))
            with span("engine", model=model.name, candidates=len(places)):
                waiting, began = self.turns.admission.in_progress, time.monotonic()
                scores = await self.turns.score(asked, model.labels, model.adapter, request_id)
                took = time.monotonic() - began
        with span("answer", model=model.name) as answering:
            predictions = calibrate(choice, asked, scores, places)
            note(
                answering,
                prompt_tokens=predictions.prompt_tokens,
                cached_tokens=predictions.cached_tokens,
            )
        computed = predictions.prompt_tokens - predictions.cached_tokens
        self.shortlists.pace.observe(computed, len(places), waiting + computed, took)
        metrics.QUEUE.labels(model.name).observe(max(score.queue_s for score in scores))
        return predictions

    def _prompts(self, model: ServedModel, pairs: Sequence[Pair]) -> tuple[list[Prompt], list[int]]:
        """The different prompts, and for each target its prompt's index among them."""
        limit = self.engine.max_prompt_tokens
        prompts: list[Prompt] = []
        for number, (reader, targets) in enumerate(pairs):
            try:
                prompts += model.prompts.build(reader, targets, limit)
            except PromptTooLong as error:
                raise StoryTooLong(str(error), number, error.index) from None
        return distinct(prompts)


def distinct(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    """The different prompts, and for each of `prompts` its index among them. Equal prefixes become
    the same object.

    The engine rounds differently with and without its cache, so a prompt that is scored twice can
    get two probabilities.
    """
    prefixes: dict[Tokens, Tokens] = {}
    found: dict[tuple[int, Tokens], int] = {}
    asked: list[Prompt] = []
    places: list[int] = []
    for prompt in prompts:
        prefix = prefixes.setdefault(prompt.prefix, prompt.prefix)
        place = found.setdefault((id(prefix), prompt.tail), len(asked))
        if place == len(asked):
            asked.append(replace(prompt, prefix=prefix))
        places.append(place)
    return asked, places


def calibrate(
    choice: Choice, asked: Sequence[Prompt], scores: Sequence[LabelScore], places: Sequence[int]
) -> Predictions:
    """asked, scores: one of each per different prompt. places: each target's index among them."""
    profile = choice.model.prompts.profile
    answers = [
        predict(score.log_yes, score.log_no, profile, prompt.history_used)
        for prompt, score in zip(asked, scores, strict=True)
    ]
    prompt_tokens = sum(scores[place].prompt_tokens for place in places)
    computed = sum(score.prompt_tokens - score.cached_tokens for score in scores)
    return Predictions(
        choice.name,
        choice.alias,
        [answers[place] for place in places],
        prompt_tokens,
        prompt_tokens - computed,
    )


def put_together(
    choice: Choice, text: Predictions | None, places: Sequence[int], judged: Judged
) -> Predictions:
    """text: what the language model predicts for the targets at `places`, if it was asked."""
    profile = choice.model.prompts.profile
    asked = dict(zip(places, text.items, strict=True)) if text is not None else {}
    unasked = Prediction(0.0, None, NO, None, 0)
    items = []
    for index, probability in enumerate(judged.probability.tolist()):
        item = asked.get(index, unasked)
        label = label_of(probability, item.label_mass, profile)
        items.append(replace(item, probability=probability, label=label))
    found = text or Predictions(choice.name, choice.alias, [], 0, 0)
    return replace(found, items=items, judged=judged)


def count_targets(pairs: Sequence[Pair]) -> int:
    return sum(len(targets) for _, targets in pairs)


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


def observed(predictions: Predictions) -> Predictions:
    """The same, recorded in the metrics."""
    model = predictions.model
    asked = [item for item in predictions.items if item.label_mass is not None]
    metrics.STORIES.labels(model).inc(len(asked))
    metrics.PROMPT_TOKENS.labels(model).inc(predictions.prompt_tokens)
    metrics.CACHED_TOKENS.labels(model).inc(predictions.cached_tokens)
    mass, probability = metrics.LABEL_MASS.labels(model), metrics.PROBABILITY.labels(model)
    for prediction in predictions.items:
        if prediction.label_mass is not None:
            mass.observe(prediction.label_mass)
        probability.observe(prediction.probability)
    return predictions
