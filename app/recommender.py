"""The use case: model name → profile → prompts → engine → calibrated answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app import metrics
from app.adapters import ModelRegistry, ServedModel
from app.engine.base import Engine
from app.errors import Unprocessable
from app.scoring.calibration import Answer, answer
from app.scoring.prompt import Prompt, PromptTooLong, Reader, Story


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer a target, in order; token counts are sums over all of them."""

    model: str
    answers: list[Answer]
    history_used: list[int]
    prompt_tokens: int
    cached_tokens: int


class Recommender:
    def __init__(self, engine: Engine, models: ModelRegistry) -> None:
        self.engine = engine
        self.models = models

    async def judge(
        self,
        model_name: str | None,
        pairs: Sequence[tuple[Reader, Sequence[Story]]],
        request_id: str,
        field: Callable[[int, int], str],
    ) -> Judged:
        """The probability that each reader clicks each of their targets, in order.

        field: (pair, target) → the request's field, for errors. Raises ModelNotFound, Unprocessable
        for a target that does not fit, EngineUnavailable.
        """
        model = self.models.get(model_name)
        prompts = self._prompts(model, pairs, field)
        scores = await self.engine.score(prompts, model.labels, model.adapter, request_id)
        answers = [answer(score.log_yes, score.log_no, model.prompts.profile) for score in scores]
        judged = Judged(
            model.name,
            answers,
            [prompt.history_used for prompt in prompts],
            sum(score.prompt_tokens for score in scores),
            sum(score.cached_tokens for score in scores),
        )
        metrics.observe_answers(judged)
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
