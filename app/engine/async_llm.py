"""vLLM's engine client, which forgets the requests that it could not send to its engine, and reads
long prompts in turns."""

import zlib
from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from copy import copy
from functools import partial
from typing import Any

from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.engine.parallel_sampling import ParentRequest

from app.engine.turns import GENERATION, Generation
from app.errors import BadRequest, EngineUnavailable, ServiceError
from app.scoring.prompt import Prompt

ENGINE_ERRORS = (EngineDeadError, EngineGenerateError)
DIED = "the engine has died"


PART_OPTIONS = ("lora_request", "priority", "data_parallel_rank")
"""Of the options of `generate`, those that part of a prompt is read with."""


class TidyLLM(AsyncLLM):  # type: ignore[misc]  # vLLM is not typed here
    @property
    def engines(self) -> int:
        """How many engines share the work, each with the whole model and a cache of its own."""
        return int(self.vllm_config.parallel_config.data_parallel_size)

    def rank_of(self, tokens: Sequence[int]) -> int | None:
        """Which engine computes what begins with these tokens: always the same one, whose cache
        then has them. None where there is only one."""
        if self.engines == 1:
            return None
        return zlib.crc32(array("q", tokens)) % self.engines

    async def add_alike(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        request_id: str,
        lora_request: LoRARequest | None,
    ) -> AsyncGenerator[RequestOutputCollector]:
        """As AsyncLLM.add_request for each prompt, with ids that begin with `request_id`; yields
        what collects each answer. What vLLM makes of the options is the same for all: it is done
        once.

        The prompts must fit into the model, and params ask for one answer."""
        if self.errored:
            raise EngineDeadError
        self._run_output_handler()
        first: Any = None
        for number, prompt in enumerate(prompts):
            name = f"{request_id}-{number}"
            if first is None:
                request = first = self.input_processor.process_inputs(
                    name,
                    tokens_input(prompt.tokens),
                    params,
                    supported_tasks=await self.get_supported_tasks(),
                    lora_request=lora_request,
                )
            else:
                request = copy(first)
                request.request_id, request.external_req_id = name, None  # vLLM makes it unique
                request.prompt_token_ids = prompt.tokens
            request.data_parallel_rank = self.rank_of(prompt.prefix)
            self.input_processor.assign_request_id(request)
            collector = RequestOutputCollector(params.output_kind, request.request_id)
            await self._add_request(request, None, None, 0, collector)
            yield collector

    async def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[Any]:
        """As AsyncLLM.generate, but the prompts of a Generation are read in turns."""
        generation = GENERATION.get()
        if generation is None or not isinstance(prompt, dict) or prompt.get("type") != "token":
            outputs = super().generate(prompt, sampling_params, request_id, **options)
        else:
            outputs = self._in_turns(generation, prompt, sampling_params, request_id, options)
        async with aclosing(outputs):
            async for output in outputs:
                yield output

    async def _in_turns(
        self,
        generation: Generation,
        prompt: Any,
        params: SamplingParams,
        request_id: str,
        options: dict[str, Any],
    ) -> AsyncGenerator[Any]:
        """The last part of a prompt has been computed when its first token comes."""
        # All parts go to one engine.
        options.setdefault("data_parallel_rank", self.rank_of(prompt["prompt_token_ids"]))
        with generation.prompt(len(prompt["prompt_token_ids"])) as unread:
            left, computed = await self._begin(generation, prompt, params, request_id, options)
            only_final = params.output_kind == RequestOutputKind.FINAL_ONLY
            if left and only_final:  # which would not tell of the first token
                params.output_kind = RequestOutputKind.CUMULATIVE
            async with AsyncExitStack() as turn:
                if left:
                    await turn.enter_async_context(generation.part(left))
                else:
                    unread.close()
                outputs = super().generate(prompt, params, request_id, **options)
                async with aclosing(outputs):
                    async for output in outputs:
                        await turn.aclose()
                        unread.close()
                        cached = output.num_cached_tokens or 0
                        output.num_cached_tokens = max(0, cached - computed)
                        if output.finished or not only_final:
                            yield output

    async def _begin(
        self,
        generation: Generation,
        prompt: Any,
        params: SamplingParams,
        request_id: str,
        options: dict[str, Any],
    ) -> tuple[int, int]:
        """Read a prompt into the cache, all but its last part if it gets one answer: of several
        answers, the first token comes with the last. Returns as Generation.read."""
        tokens, several = prompt["prompt_token_ids"], params.n > 1
        if (
            params.skip_reading_prefix_cache
            or not self.vllm_config.cache_config.enable_prefix_caching
        ):
            return (0 if several else len(tokens)), 0
        read = partial(self._read, prompt, request_id, options)
        return await generation.read(tokens, read, whole=several)

    async def _read(self, prompt: Any, request_id: str, options: dict[str, Any], end: int) -> int:
        """Read a prompt up to `end`. Returns how many tokens of it were not in the cache."""
        part = tokens_input(prompt["prompt_token_ids"][:end], cache_salt=prompt.get("cache_salt"))
        params = SamplingParams(
            max_tokens=1, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        known = {name: options[name] for name in PART_OPTIONS if name in options}
        outputs = super().generate(part, params, f"{request_id}-{end}", **known)
        (read,) = [output async for output in outputs]
        return end - (read.num_cached_tokens or 0)

    async def _add_request(self, request: Any, *rest: Any, **named: Any) -> None:
        """vLLM registers a request before it encodes it for the engine's process. When that fails,
        or its task is cancelled, it would keep the request and its prompt for good."""
        try:
            await super()._add_request(request, *rest, **named)
        except BaseException:
            # In 0.26, each of several answers is a request of its own, with one parent.
            parents = (one for one in (*rest, *named.values()) if isinstance(one, ParentRequest))
            await self.abort(next(parents, request).request_id, internal=True)
            raise


def engine_failure(llm: AsyncLLM, error: BaseException) -> ServiceError | None:
    """What one of ENGINE_ERRORS means to the client, or None if that is not known: an engine that
    still runs failed on this request only."""
    if llm.errored or isinstance(error, EngineDeadError):
        return EngineUnavailable(DIED)
    if isinstance(error.__cause__, ValueError | TypeError | OverflowError):
        return BadRequest(f"the engine can't read this request: {error.__cause__}")
    return None
