"""The use case: model → profile → prompts → engine → calibrated predictions → ranker."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from app.engine.base import Engine, LabelScore
from app.engine.turns import Turns
from app.knowledge.gathering import Knowledge, Pair
from app.knowledge.judging import Judged, judge
from app.knowledge.ranking import Ranking
from app.knowledge.watching import Watch
from app.models.registry import Choice, ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.tracing import note, span
from app.ranker.features import Known
from app.scoring.calibration import Prediction, label_of, predict
from app.scoring.encoder import Tokens
from app.scoring.prompt import Prompt, PromptTooLong

Value = TypeVar("Value")

MAX_INLINE_TARGETS = 32
"""From so many targets on, prompts are built in a thread, so as not to block other requests."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """One model's predictions for a request.

    alias: the alias that the request named, if any. items: one per target, in the request's order.
    Targets with the same prompt share the language model's answer. judged: what the ranker made of
    it; None without one. explored: the order gives new stories a chance. prompt_tokens,
    cached_tokens: sums over all targets; those of a prompt's repetitions count as cached.
    """

    model: str
    alias: str | None
    items: list[Prediction]
    prompt_tokens: int
    cached_tokens: int
    judged: Judged | None = None
    explored: bool = False

    @property
    def order_by(self) -> Sequence[float]:
        """What targets are to be ordered by, the highest first."""
        if self.judged is None:
            return [item.probability for item in self.items]
        found: list[float] = self.judged.order_by.tolist()
        return found


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
        chance: np.random.Generator | None = None,
    ) -> None:
        self.engine = engine
        self.models = models
        self.turns = turns
        self.knowledge = knowledge
        self.chance = chance
        self.watch = Watch()

    async def predict(self, choice: Choice, pairs: Sequence[Pair], request_id: str) -> Predictions:
        """Predict the probability that each reader clicks each of their targets, in order.

        Raises StoryTooLong, Overloaded, EngineUnavailable.
        """
        model, ranking = choice.model, choice.ranking
        if ranking is None:
            return observed(await self._ask(choice, pairs, request_id))
        gathering = self._gather(model.name, ranking, pairs)
        with self.models.at_work(model), started(gathering) as known:
            predictions = await self._ask(choice, pairs, request_id)
            with span("ranker", model=model.name):
                text = [item.text_probability for item in predictions.items]
                with metrics.RANKER_SECONDS.labels(model.name, "wait").time():
                    found = await known
                work = partial(judge, ranking, found, text, self.chance)
                is_small = len(text) < MAX_INLINE_TARGETS
                with metrics.RANKER_SECONDS.labels(model.name, "judge").time():
                    judged = work() if is_small else await asyncio.to_thread(work)
        sizes = [len(targets) for _, targets in pairs]
        self.watch.observe(model.name, ranking.ranker.description, judged, sizes)
        return observed(with_ranker(predictions, judged, choice, explored=self.chance is not None))

    async def _gather(self, model: str, ranking: Ranking, pairs: Sequence[Pair]) -> Sequence[Known]:
        with metrics.RANKER_SECONDS.labels(model, "gather").time():
            return await self.knowledge.gather(ranking, pairs)

    async def _ask(self, choice: Choice, pairs: Sequence[Pair], request_id: str) -> Predictions:
        """What the language model predicts."""
        model = choice.model
        with self.models.at_work(model):
            with span("prompt", model=model.name):
                if sum(len(targets) for _, targets in pairs) < MAX_INLINE_TARGETS:
                    asked, places = self._prompts(model, pairs)
                else:
                    asked, places = await asyncio.to_thread(self._prompts, model, pairs)
            with span("engine", model=model.name, candidates=len(places)):
                scores = await self.turns.score(asked, model.labels, model.adapter, request_id)
        with span("answer", model=model.name) as answering:
            predictions = calibrate(choice, asked, scores, places)
            note(
                answering,
                prompt_tokens=predictions.prompt_tokens,
                cached_tokens=predictions.cached_tokens,
            )
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


def with_ranker(
    predictions: Predictions, judged: Judged, choice: Choice, *, explored: bool
) -> Predictions:
    profile = choice.model.prompts.profile
    items = [
        replace(item, probability=found, label=label_of(found, item.label_mass, profile))
        for item, found in zip(predictions.items, judged.probability.tolist(), strict=True)
    ]
    return replace(predictions, items=items, judged=judged, explored=explored)


@contextmanager
def started(work: Coroutine[Any, Any, Value]) -> Iterator[asyncio.Task[Value]]:
    """Let work begin; it is cancelled if nobody has awaited it in the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()


def observed(predictions: Predictions) -> Predictions:
    """The same, recorded in the metrics."""
    model = predictions.model
    metrics.STORIES.labels(model).inc(len(predictions.items))
    metrics.PROMPT_TOKENS.labels(model).inc(predictions.prompt_tokens)
    metrics.CACHED_TOKENS.labels(model).inc(predictions.cached_tokens)
    mass, probability = metrics.LABEL_MASS.labels(model), metrics.PROBABILITY.labels(model)
    for prediction in predictions.items:
        mass.observe(prediction.label_mass)
        probability.observe(prediction.probability)
    return predictions
