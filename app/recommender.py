"""The use case: model name → profile → prompts → engine → calibrated answers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.admission import Admission
from app.engine.base import Engine
from app.errors import Unprocessable
from app.models.registry import Choice, ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.tracing import note, span
from app.scoring.calibration import Answer, answer
from app.scoring.prompt import Prompt, PromptTooLong
from app.scoring.wording import Reader, Story

MANY = 32
"""Targets whose prompts are built in a thread, so that they don't hold up other requests."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer a target, in order; token counts are sums over all of them. alias: by which the
    model was asked for."""

    model: str
    alias: str | None
    answers: list[Answer]
    history_used: list[int]
    prompt_tokens: int
    cached_tokens: int


class Recommender:
    def __init__(self, engine: Engine, models: ModelRegistry, admission: Admission) -> None:
        self.engine = engine
        self.models = models
        self.admission = admission

    async def judge(
        self,
        choice: Choice,
        pairs: Sequence[tuple[Reader, Sequence[Story]]],
        request_id: str,
        field: Callable[[int, int], str],
    ) -> Judged:
        """The probability that each reader clicks each of their targets, in order.

        field: (pair, target) → the request's field, for errors. Raises Unprocessable for a target
        that does not fit, Overloaded, EngineUnavailable.
        """
        model = choice.model
        with self.models.at_work(model):
            with span("prompt", model=model.name):
                if sum(len(targets) for _, targets in pairs) < MANY:
                    prompts = self._prompts(model, pairs, field)
                else:
                    prompts = await asyncio.to_thread(self._prompts, model, pairs, field)
            at_work = self.admission.work(cost(prompts))
            with at_work, span("engine", model=model.name, candidates=len(prompts)):
                scores = await self.engine.score(prompts, model.labels, model.adapter, request_id)
        with span("answer", model=model.name) as answering:
            judged = Judged(
                model.name,
                choice.alias,
                [answer(score.log_yes, score.log_no, model.prompts.profile) for score in scores],
                [prompt.history_used for prompt in prompts],
                sum(score.prompt_tokens for score in scores),
                sum(score.cached_tokens for score in scores),
            )
            note(
                answering,
                prompt_tokens=judged.prompt_tokens,
                cached_tokens=judged.cached_tokens,
            )
            metrics.observe_answers(judged)
        metrics.QUEUE.labels(model.name).observe(max(score.queue_s for score in scores))
        return judged

    def _prompts(
        self,
        model: ServedModel,
        pairs: Sequence[tuple[Reader, Sequence[Story]]],
        field: Callable[[int, int], str],
    ) -> list[Prompt]:
        limit = self.engine.max_prompt_tokens
        prompts: list[Prompt] = []
        for number, (reader, targets) in enumerate(pairs):
            try:
                prompts += model.prompts.build(reader, targets, limit)
            except PromptTooLong as error:
                raise Unprocessable(str(error), field(number, error.index)) from None
        return prompts


def cost(prompts: Sequence[Prompt]) -> int:
    """Tokens to compute at most: a prefix that prompts share counts once."""
    prefixes = {id(prompt.prefix): len(prompt.prefix) for prompt in prompts}
    return sum(prefixes.values()) + sum(len(prompt.tail) for prompt in prompts)
