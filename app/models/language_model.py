"""The language model's predictions: prompts → engine → calibrated probabilities."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from app.engine.base import Engine, LabelScore
from app.engine.turns import Turns
from app.knowledge.gathering import Pair
from app.knowledge.judging import Judged
from app.knowledge.shortlists import Pace
from app.models.registry import Choice, ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.tracing import note, span
from app.scoring.calibration import Prediction, predict
from app.scoring.encoder import Tokens
from app.scoring.prompt import Prompt, PromptTooLong
from app.scoring.ranking import order

Value = TypeVar("Value")

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


class LanguageModel:
    """pace: learns how fast the engine is."""

    def __init__(self, engine: Engine, models: ModelRegistry, turns: Turns, pace: Pace) -> None:
        self._engine = engine
        self._models = models
        self._turns = turns
        self._pace = pace

    async def predict(self, choice: Choice, pairs: Sequence[Pair], request_id: str) -> Predictions:
        """One prediction per target, in order. Raises StoryTooLong, Overloaded and
        EngineUnavailable."""
        model = choice.model
        with self._models.at_work(model):
            with span("prompt", model=model.name):
                work = partial(self._prompts, model, pairs)
                asked, places = await off_the_loop(work, count_targets(pairs))
            with span("engine", model=model.name, candidates=len(places)):
                waiting, began = self._turns.admission.in_progress, time.monotonic()
                scores = await self._turns.score(asked, model.labels, model.adapter, request_id)
                took = time.monotonic() - began
        with span("answer", model=model.name) as answering:
            predictions = calibrate(choice, asked, scores, places)
            note(
                answering,
                prompt_tokens=predictions.prompt_tokens,
                cached_tokens=predictions.cached_tokens,
            )
        computed = predictions.prompt_tokens - predictions.cached_tokens
        self._pace.observe(computed, len(places), waiting + computed, took)
        metrics.QUEUE.labels(model.name).observe(max(score.queue_s for score in scores))
        return predictions

    def _prompts(self, model: ServedModel, pairs: Sequence[Pair]) -> tuple[list[Prompt], list[int]]:
        """The different prompts, and for each target its prompt's index among them."""
        limit = self._engine.max_prompt_tokens
        prompts: list[Prompt] = []
        for number, (reader, targets) in enumerate(pairs):
            try:
                prompts += model.prompts.build(reader, targets, limit)
            except PromptTooLong as error:
                raise StoryTooLong(str(error), number, error.index) from None
        return distinct(prompts)


async def off_the_loop(work: Callable[[], Value], targets: int) -> Value:
    """In a thread, unless there is little to do."""
    return work() if targets < MAX_INLINE_TARGETS else await asyncio.to_thread(work)


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


def count_targets(pairs: Sequence[Pair]) -> int:
    return sum(len(targets) for _, targets in pairs)


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
