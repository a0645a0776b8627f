"""The use case: model → profile → prompts → engine → calibrated predictions."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.engine.base import Engine, LabelScore
from app.engine.turns import Turns
from app.models.registry import Choice, ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.tracing import note, span
from app.scoring.calibration import Prediction, predict
from app.scoring.encoder import Tokens
from app.scoring.prompt import Prompt, PromptTooLong
from app.scoring.wording import Reader, Story

Pair = tuple[Reader, Sequence[Story]]
"""A reader and the stories to predict for them."""

MAX_INLINE_TARGETS = 32
"""From so many targets on, prompts are built in a thread, so as not to block other requests."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """One model's predictions for a request.

    alias: the alias that the request named, if any. items: one per target, in the request's order.
    Targets with the same prompt share one prediction. prompt_tokens, cached_tokens: sums over all
    targets; those of a prompt's repetitions count as cached.
    """

    model: str
    alias: str | None
    items: list[Prediction]
    prompt_tokens: int
    cached_tokens: int


class StoryTooLong(ValueError):
    """A target does not fit into the model's context. pair, target: its indices in the request."""

    def __init__(self, message: str, pair: int, target: int) -> None:
        super().__init__(message)
        self.pair = pair
        self.target = target


class Recommender:
    def __init__(self, engine: Engine, models: ModelRegistry, turns: Turns) -> None:
        self.engine = engine
        self.models = models
        self.turns = turns

    async def predict(self, choice: Choice, pairs: Sequence[Pair], request_id: str) -> Predictions:
        """Predict the probability that each reader clicks each of their targets, in order.

        Raises StoryTooLong, Overloaded, EngineUnavailable.
        """
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
            observe(predictions)
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
        choice.model.name,
        choice.alias,
        [answers[place] for place in places],
        prompt_tokens,
        prompt_tokens - computed,
    )


def observe(predictions: Predictions) -> None:
    """Record the predictions in the metrics."""
    model = predictions.model
    metrics.STORIES.labels(model).inc(len(predictions.items))
    metrics.PROMPT_TOKENS.labels(model).inc(predictions.prompt_tokens)
    metrics.CACHED_TOKENS.labels(model).inc(predictions.cached_tokens)
    mass, probability = metrics.LABEL_MASS.labels(model), metrics.PROBABILITY.labels(model)
    for prediction in predictions.items:
        mass.observe(prediction.label_mass)
        probability.observe(prediction.probability)
