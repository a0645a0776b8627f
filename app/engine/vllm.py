"""vLLM's AsyncLLM as an Engine, for vLLM 0.26 to 0.32."""

import asyncio
import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psutil
from pydantic import ValidationError
from vllm.lora.request import LoRARequest
from vllm.outputs import PoolingRequestOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import RequestOutputCollector

from app.engine.arguments import EngineArgs, engine_options
from app.engine.async_llm import DIED, TidyLLM, engine_failure
from app.engine.base import LabelScore
from app.engine.memory import check_memory
from app.engine.openai import VllmOpenAI
from app.engine.processes import descendants, keep_interrupts_from_children, kill_all
from app.engine.quantization import check_quantization
from app.engine.threads import in_thread
from app.errors import AdapterRejected, EngineUnavailable, StartupError
from app.files import first_line
from app.scoring.prompt import Prompt
from app.settings import Settings

logger = logging.getLogger("frontpage")
CPU_SLICE_TOKENS = 256
"""The embedded default computes so many in about a fifth of a second on two cores."""
KILL_INTERVAL_S, LOOK_INTERVAL_S = 0.05, 0.25


class VllmEngine:
    """One AsyncLLM for a base or merged model with any number of LoRA adapters. It is started once;
    after its end, another one takes its place."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._llm: TidyLLM | None = None
        self._making: asyncio.Future[TidyLLM] | None = None
        self._is_ended = False
        self._processes: set[psutil.Process] = set()
        self._openai: VllmOpenAI | None = None
        self._loras: dict[str, LoRARequest] = {}
        self._lora_ids = itertools.count(1)

    @property
    def llm(self) -> TidyLLM:
        if self._llm is None:
            raise EngineUnavailable("the engine is not started")
        return self._llm

    @property
    def openai(self) -> VllmOpenAI | None:
        return self._openai

    @property
    def step_tokens(self) -> int:
        """Of all engines together, where the data is parallel."""
        return self._tokens_a_step * self.llm.engines

    @property
    def slice_tokens(self) -> int:
        """On a GPU, a whole step of one engine, which takes a fraction of a second there."""
        return CPU_SLICE_TOKENS if current_platform.is_cpu() else self._tokens_a_step

    @property
    def _tokens_a_step(self) -> int:
        return int(self.llm.vllm_config.scheduler_config.max_num_batched_tokens)

    @property
    def max_prompt_tokens(self) -> int:
        """One token of the model's length is left for the answer."""
        return int(self.llm.model_config.max_model_len) - 1

    async def start(self) -> None:
        others, making = descendants(), in_thread(self._make)
        self._making = making
        try:
            while not making.done():
                await asyncio.wait({making}, timeout=LOOK_INTERVAL_S)
                self._processes |= descendants() - others
            self._llm = making.result()
            self._openai = await VllmOpenAI.create(self._llm, self._settings, self._loras)
        except BaseException:
            await self.stop()
            raise

    def _make(self) -> TidyLLM:
        """Called by a thread, where no event loop runs: vLLM then starts its tasks with the first
        call. Raises StartupError."""
        keep_interrupts_from_children()
        settings = self._settings
        options = engine_options(settings)
        check_memory(settings.model, options, on_cpu=current_platform.is_cpu())
        check_quantization(settings.model, on_cpu=current_platform.is_cpu())
        try:
            args = EngineArgs(**options)
            if self._is_ended:
                raise StartupError("the engine was ended before it had started")
            # Steps as large as vLLM's own server takes on this device; without it, 2,048 tokens.
            context = UsageContext.OPENAI_API_SERVER
            llm: TidyLLM = TidyLLM.from_engine_args(args, usage_context=context)
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            raise StartupError(f"the engine did not start: {cause(error)}") from error
        return llm

    async def stop(self) -> None:
        llm, self._llm, self._is_ended = self._llm, None, True
        if llm is None:
            return await self.kill()
        self._making = None
        return await in_thread(llm.shutdown)

    async def kill(self) -> None:
        making, self._making, self._is_ended = self._making, None, True
        kill_all(self._processes)  # also those whose own parent has died already
        while making is not None and not making.done():
            kill_all(descendants())  # which ends the thread's waiting for them
            await asyncio.wait({making}, timeout=KILL_INTERVAL_S)
        llm, self._llm = self._llm, None
        if llm is None and making is not None and making.exception() is None:
            llm = making.result()
        if llm is not None:
            release_callers(llm)
            await in_thread(llm.shutdown)

    def check_health(self) -> None:
        if self.llm.errored:
            raise EngineUnavailable(DIED)

    async def ping(self) -> None:
        with death_as_ours():
            await self.llm.collective_rpc("answer_ping")

    async def use_labels(self, token_ids: Sequence[int]) -> None:
        with death_as_ours():
            exact = await self.llm.collective_rpc("use_float32_labels", args=(list(token_ids),))
        if not exact[0]:  # the first worker is the one that samples
            logger.warning("scores have the resolution of the model's head: it has no plain rows")

    async def load_adapter(self, name: str, path: Path) -> None:
        llm, request = self.llm, lora_request(name, next(self._lora_ids), path)
        try:
            added = await llm.add_lora(request)
        except EngineDeadError as error:
            raise EngineUnavailable(DIED) from error
        except asyncio.CancelledError:  # the engine goes on with it, and would keep it
            with suppress(EngineDeadError):
                await llm.remove_lora(request.lora_int_id)
            raise
        except Exception as error:  # vLLM names no type for a bad adapter
            raise AdapterRejected(f"adapter {name}: {first_line(error)}") from error
        if not added:
            raise AdapterRejected(f"adapter {name}: the engine did not take it")
        self._loras[name] = request

    async def unload_adapter(self, name: str) -> None:
        request = self._loras.pop(name, None)
        if request is not None:
            with death_as_ours():
                await self.llm.remove_lora(request.lora_int_id)

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        # A client may send the same id twice at once; the engine's ids must differ.
        unique = f"{request_id}-{uuid4().hex[:8]}"
        llm, lora = self.llm, self._loras[adapter] if adapter is not None else None
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            detokenize=False,
            logprob_token_ids=list(labels),
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,  # made for this call: a flat copy is enough
        )

        asked: list[RequestOutputCollector] = []
        try:
            async for one in llm.add_alike(prompts, params, unique, lora):
                asked.append(one)  # noqa: PERF401  # known at once, to be taken back
            outputs = [one.get_nowait() or await one.get() for one in asked]
        except EngineDeadError as error:
            raise EngineUnavailable(DIED) from error
        except BaseException as error:  # the client has left, too
            await llm.abort([one.request_id for one in asked], internal=True)
            if isinstance(error, EngineGenerateError) and (failure := engine_failure(llm, error)):
                raise failure from error
            raise
        return [label_score(output, labels) for output in outputs]


def cause(error: Exception) -> str:
    """What an error of vLLM's says first, without pydantic's count of errors."""
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return first_line(error)


@contextmanager
def death_as_ours() -> Iterator[None]:
    """Raises EngineUnavailable for an engine that has died."""
    try:
        yield
    except EngineDeadError as error:
        raise EngineUnavailable(DIED) from error


def release_callers(llm: AsyncLLM) -> None:
    """Have everything that waits for an engine get EngineDeadError. Of an engine that is killed,
    vLLM tells those who wait for answers, unless its own task is ended first, and nobody else (seen
    with vLLM 0.32)."""
    llm.output_processor.propagate_error(EngineDeadError())
    for call in llm.engine_core.utility_results.values():
        if not call.done():
            call.set_exception(EngineDeadError())


def label_score(
    output: RequestOutput | PoolingRequestOutput, labels: tuple[int, int]
) -> LabelScore:
    if not isinstance(output, RequestOutput) or not output.outputs[0].logprobs:
        raise EngineUnavailable("the engine gave no answer")
    logprobs = output.outputs[0].logprobs[0]
    return LabelScore(
        log_yes=logprobs[labels[0]].logprob,
        log_no=logprobs[labels[1]].logprob,
        prompt_tokens=len(output.prompt_token_ids or ()),
        cached_tokens=output.num_cached_tokens or 0,
        queue_s=output.metrics.scheduled_ts - output.metrics.queued_ts if output.metrics else 0.0,
    )


def lora_request(name: str, number: int, path: Path) -> LoRARequest:
    return LoRARequest(name, number, str(path.absolute()))
