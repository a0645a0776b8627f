"""A model run by vLLM in this process: scores as the service gives them, without HTTP."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.v1.engine.exceptions import EngineDeadError

from app.engine.lora import LoraError, read_lora
from app.engine.options import lora_room, vllm_options
from app.files import first_line
from training.data.prepared import Impression
from training.errors import TrainingError
from training.evaluation.backends.base import (
    MAX_TOKENS,
    TEMPERATURE,
    Answers,
    first_prompts,
    judge,
)
from training.packed.prompts import build_prompts
from training.progress import say
from training.tuning.sources import Source


class VllmBackend:
    concurrent = False
    chunk = 256

    def __init__(self, source: Source, options: Mapping[str, Any]) -> None:
        """options: vLLM's own, which win over ours. Raises LoraError for an adapter that vLLM can't
        serve, and TrainingError for options that it refuses."""
        self.profile = source.profile
        self.builder = source.builder()
        labels = [self.builder.yes, self.builder.no]
        self.lora = (
            LoRARequest("tuned", 1, str(source.adapter.resolve())) if source.adapter else None
        )
        try:
            self.llm = LLM(**engine_options(source, options))
        except (ValueError, TypeError, RuntimeError) as error:
            raise TrainingError(f"vLLM did not start: {first_line(error)}") from error
        exact = self.llm.collective_rpc("use_float32_labels", args=(labels,))
        if not exact[0]:  # the first worker is the one that samples
            say("warning: scores have the resolution of the model's head: it has no plain rows")
        self.limit = int(self.llm.llm_engine.model_config.max_model_len)
        self.scored = SamplingParams(
            max_tokens=1, temperature=0.0, detokenize=False, logprob_token_ids=labels
        )
        # Without a seed: in 0.32 on a CPU, a seeded prompt that is read in parts ends the engine.
        self.written = SamplingParams(max_tokens=MAX_TOKENS, temperature=TEMPERATURE)

    def score(self, impressions: Sequence[Impression]) -> list[Answers]:
        built = [
            build_prompts(self.builder, row.reader, row.candidates, self.limit - 1, row.id)[0]
            for row in impressions
        ]
        outputs = self._generate([prompt.tokens for row in built for prompt in row], self.scored)
        pairs = np.array([self._logs(output) for output in outputs])
        ends = np.cumsum([len(row) for row in built])[:-1]
        return [judge(rows[:, 0], rows[:, 1], self.profile) for rows in np.split(pairs, ends)]

    def write(self, samples: Sequence[Impression]) -> list[str]:
        prompts = first_prompts(self.builder, samples, self.limit - MAX_TOKENS)
        return [output.outputs[0].text for output in self._generate(prompts, self.written)]

    def _generate(self, prompts: Sequence[list[int]], params: SamplingParams) -> list[Any]:
        inputs = [TokensPrompt(prompt_token_ids=tokens) for tokens in prompts]
        try:
            outputs: list[Any] = self.llm.generate(
                inputs, params, use_tqdm=False, lora_request=self.lora
            )
        except EngineDeadError as error:
            raise TrainingError("vLLM's engine has stopped; see its output above") from error
        return outputs

    def _logs(self, output: Any) -> tuple[float, float]:
        logprobs = output.outputs[0].logprobs[0]
        return logprobs[self.builder.yes].logprob, logprobs[self.builder.no].logprob

    def close(self) -> None:
        """End the engine's process, which frees what it held of the GPU."""
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm


def engine_options(source: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM is started with. given: the user's options, which win over our defaults."""
    return vllm_options(source.base, current_platform.is_cpu(), lora_options(source), given)


def lora_options(source: Source) -> dict[str, Any]:
    """Room for the adapter, if there is one. Raises LoraError for anything but plain LoRA, and for
    a rank that vLLM does not serve."""
    if source.adapter is None:
        return {}
    ranks = [read_lora(source.adapter).rank]
    try:
        return lora_room(source.base, current_platform.get_device_name(), ranks, adapters=1)
    except LoraError as error:
        raise LoraError(f"{source.adapter}: {error}") from None
