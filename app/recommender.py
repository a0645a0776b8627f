"""The use case: model → profile → prompts → engine → calibrated predictions."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.admission import Admission
from app.engine.base import Engine, LabelScore
from app.models.registry import Choice, ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.tracing import note, span
from app.scoring.calibration import Prediction, predict
from app.scoring.prompt import Prompt, PromptTooLong
from app.scoring.wording import Reader, Story

Pair = tuple[Reader, Sequence[Story]]
"""A reader, and the stories to predict for them."""

MAX_INLINE_TARGETS = 32
"""With more targets, prompts are built in a thread, so that they don't hold up other requests."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """items: one a target, in the order asked. alias: the one by which the model was asked for.
    prompt_tokens, cached_tokens: sums over all targets."""

    model: str
    alias: str | None
    items: list[Prediction]
    prompt_tokens: int
    cached_tokens: int


class StoryTooLong(ValueError):
    """A target does not fit into the model's length. pair, target: which one."""

    def __init__(self, message: str, pair: int, target: int) -> None:
        super().__init__(message)
        self.pair = pair
        self.target = target


class Recommender:
    def __init__(self, engine: Engine, models: ModelRegistry, admission: Admission) -> None:
        self.engine = engine
        self.models = models
        self.admission = admission

    async def predict(self, choice: Choice, pairs: Sequence[Pair], request_id: str) -> Predictions:
        """The probability that each reader clicks each of their targets, in order.

        Raises StoryTooLong, Overloaded, EngineUnavailable.
        """
        model = choice.model
        with self.models.at_work(model):
            with span("prompt", model=model.name):
                if sum(len(targets) for _, targets in pairs) < MAX_INLINE_TARGETS:
                    prompts = self._prompts(model, pairs)
                else:
                    prompts = await asyncio.to_thread(self._prompts, model, pairs)
            at_work = self.admission.work(cost(prompts))
            with at_work, span("engine", model=model.name, candidates=len(prompts)):
                scores = await self.engine.score(prompts, model.labels, model.adapter, request_id)
        with span("answer", model=model.name) as answering:
            predictions = calibrate(choice, prompts, scores)
            note(
                answering,
                prompt_tokens=predictions.prompt_tokens,
                cached_tokens=predictions.cached_tokens,
            )
            observe(predictions)
        metrics.QUEUE.labels(model.name).observe(max(score.queue_s for score in scores))
        return predictions

    def _prompts(self, model: ServedModel, pairs: Sequence[Pair]) -> list[Prompt]:
        limit = self.engine.max_prompt_tokens
        prompts: list[Prompt] = []
        for number, (reader, targets) in enumerate(pairs):
            try:
                prompts += model.prompts.build(reader, targets, limit)
            except PromptTooLong as error:
                raise StoryTooLong(str(error), number, error.index) from None
        return prompts


def cost(prompts: Sequence[Prompt]) -> int:
    """How many tokens to compute at most: a prefix that prompts share counts once."""
    prefixes = {id(prompt.prefix): len(prompt.prefix) for prompt in prompts}
    return sum(prefixes.values()) + sum(len(prompt.tail) for prompt in prompts)


def calibrate(
    choice: Choice, prompts: Sequence[Prompt], scores: Sequence[LabelScore]
) -> Predictions:
    profile = choice.model.prompts.profile
    return Predictions(
        choice.model.name,
        choice.alias,
        [
            predict(score.log_yes, score.log_no, profile, prompt.history_used)
            for prompt, score in zip(prompts, scores, strict=True)
        ],
        sum(score.prompt_tokens for score in scores),
        sum(score.cached_tokens for score in scores),
    )


def observe(predictions: Predictions) -> None:
    """Into the metrics."""
    model = predictions.model
    metrics.STORIES.labels(model).inc(len(predictions.items))
    metrics.PROMPT_TOKENS.labels(model).inc(predictions.prompt_tokens)
    metrics.CACHED_TOKENS.labels(model).inc(predictions.cached_tokens)
    mass, probability = metrics.LABEL_MASS.labels(model), metrics.PROBABILITY.labels(model)
    for prediction in predictions.items:
        mass.observe(prediction.label_mass)
        probability.observe(prediction.probability)
