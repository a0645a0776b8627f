"""Adapters in the engine: proving one before it is served, and retiring it after its last request.

A failure changes nothing. Each version has its own copy of the files and its own name in the
engine, so that it never uses another version's cached prefixes.
"""

import asyncio
import shutil
from collections.abc import Awaitable
from contextlib import suppress

from app.engine.base import Engine
from app.errors import AdapterRejected, EngineUnavailable
from app.knowledge.ranking import Ranking
from app.likeness.folder import EncoderError
from app.models.registry import ModelRegistry, ServedModel
from app.observability import metrics
from app.scoring.wording import Reader, Story

PROBE = Reader(history=[Story("Tesla unveils a cheaper electric car")])
PROBE_TARGET = Story("Microsoft builds a wind farm")


class Loader:
    """Whoever changes what is served holds `changing` for so long."""

    def __init__(self, models: ModelRegistry, engine: Engine) -> None:
        self.models = models
        self.engine = engine
        self.changing = asyncio.Lock()
        self._retiring: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Give up waiting for the requests of an old version."""
        if self._retiring is not None:
            self._retiring.cancel()
            with suppress(asyncio.CancelledError, EngineUnavailable):
                await self._retiring

    async def prove(self, model: ServedModel) -> None:
        """Load a model into the engine and verify that it changes a score; if not, unload it.

        Raises AdapterRejected.
        """
        await self.retired()
        adapter = str(model.adapter)
        await self.engine.use_labels(model.labels)
        try:
            await self.engine.load_adapter(adapter, model.folder)
            await check_effect(self.engine, model)
            if model.ranking is not None:
                await prove_ranking(model.ranking)
        except BaseException:
            await to_its_end(self.engine.unload_adapter(adapter))
            raise

    async def drop(self, model: ServedModel) -> None:
        """Take a proven model that is not to be served out of the engine."""
        await self.engine.unload_adapter(str(model.adapter))

    def publish(self, model: ServedModel) -> None:
        """Serve a proven model from the next request on, and retire the one it replaces.

        Nothing is awaited here, so it happens completely or not at all.
        """
        old = self.models.get(model.name) if model.name in self.models else None
        self.models.put(model)
        metrics.ADAPTERS.labels(model.name, str(model.version)).set(1)
        if old is not None and old is not model:
            self._retire(old)

    def remove(self, model: ServedModel) -> None:
        """Serve a model no more, and retire it."""
        self.models.remove(model.name)
        self._retire(model)

    async def retired(self) -> None:
        """Wait until the version being retired, if any, has left the engine. So the engine never
        holds more than one version besides those that are served."""
        retiring = self._retiring
        if retiring is not None:
            try:
                await asyncio.shield(retiring)
            finally:
                if retiring.done():
                    self._retiring = None

    def _retire(self, model: ServedModel) -> None:
        """Start a task that unloads a model once no request uses it, and then deletes its files.

        The task goes on if the client that caused it leaves. The settings' adapters are never
        retired.
        """
        metrics.ADAPTERS.remove(model.name, str(model.version))
        self._retiring = asyncio.create_task(self._take_out(model))

    async def _take_out(self, model: ServedModel) -> None:
        try:
            await self.models.until_idle(model)
            await self.engine.unload_adapter(str(model.adapter))
        finally:
            shutil.rmtree(model.folder, ignore_errors=True)


async def to_its_end(work: Awaitable[object]) -> None:
    """Await `work`. A cancellation takes effect only once the work has finished."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.cancelled() or task.exception()  # what it raised counts for nothing now
        raise


async def prove_ranking(ranking: Ranking) -> None:
    """Raises AdapterRejected if its encoders can't be loaded."""
    try:
        await ranking.prove()
    except EncoderError as error:
        raise AdapterRejected(str(error), "path") from error


async def score_once(engine: Engine, model: ServedModel) -> None:
    """Get a first score, past all that waits. Raises PromptTooLong if the model can't score even a
    short story, and EngineUnavailable."""
    prompts = model.prompts.build(PROBE, [PROBE_TARGET], engine.max_prompt_tokens)
    await engine.score(prompts, model.labels, model.adapter, "start")


async def check_effect(engine: Engine, model: ServedModel) -> None:
    """Raises AdapterRejected if the adapter changes no score.

    vLLM silently ignores an adapter whose tensor names don't match (vLLM issue 34186).
    """
    prompts = model.prompts.build(PROBE, [PROBE_TARGET], engine.max_prompt_tokens)
    with_adapter, without = [
        (await engine.score(prompts, model.labels, adapter, "probe"))[0]
        for adapter in (model.adapter, None)
    ]
    if (with_adapter.log_yes, with_adapter.log_no) == (without.log_yes, without.log_no):
        raise AdapterRejected(
            f"adapter {model.name} changes no score: it has no effect on the base model",
            "path",
        )
