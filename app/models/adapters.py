"""Adapters: loaded at start-up or while serving, checked, and kept across restarts.

A failed load changes nothing. Each load creates a new version with its own copy of the files and
its own name in the engine, so that it never uses another version's cached prefixes.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

from app.engine.base import Engine
from app.errors import (
    AdapterRejected,
    Conflict,
    EngineUnavailable,
    StartupError,
)
from app.models.adapter_folder import check_adapter, check_name, copy_files, find_below
from app.models.folders import read_prompts
from app.models.kept import KeptAdapter, KeptFile
from app.models.registry import ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.progress import step
from app.scoring.wording import Reader, Story
from app.settings import Settings

logger = logging.getLogger("frontpage")
PROBE = Reader(history=[Story("Tesla unveils a cheaper electric car")])
PROBE_TARGET = Story("Microsoft builds a wind farm")


class Adapters:
    """Operators' changes to adapters while the service runs, one at a time."""

    def __init__(
        self, settings: Settings, models: ModelRegistry, engine: Engine, kept: KeptFile
    ) -> None:
        self.settings = settings
        self.models = models
        self.engine = engine
        self.failed: dict[str, str] = {}
        """Name → reason, for kept adapters that could not be loaded at this start."""
        self._encoder = models.base.prompts.encoder
        self._kept = kept
        self._retiring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the adapters in the settings, then those kept from before the restart.

        Raises StartupError, except for a kept adapter that fails, which is left out.
        """
        await self.engine.use_labels(self.models.base.labels)
        for name, folder in self.settings.adapters.items():
            try:
                with step(f"adapter {name} from {folder}"):
                    prompts = read_prompts(self._encoder, folder)
                    await self._bring(ServedModel(name, 1, folder, prompts, folder))
            except AdapterRejected as error:
                raise StartupError(str(error)) from error
        for name, kept in self._kept.content.adapters.items():
            if name not in self.models:
                await self._bring_back(name, kept)

    async def stop(self) -> None:
        """Give up waiting for the requests of an old version."""
        if self._retiring is not None:
            self._retiring.cancel()
            with suppress(asyncio.CancelledError, EngineUnavailable):
                await self._retiring

    def list_failed(self) -> list[tuple[str, KeptAdapter, str]]:
        """The kept adapters that could not be loaded at this start: name, adapter and reason."""
        kept = self._kept.content.adapters
        return [(name, kept[name], error) for name, error in self.failed.items()]

    async def load(self, name: str, path: str) -> ServedModel:
        """Load an adapter and serve it.

        If the client leaves before the adapter is published, nothing changes. If it leaves later,
        the old version is retired all the same.

        Raises InvalidValue, Conflict or AdapterRejected; nothing has changed then.
        """
        check_name(name)
        async with self._kept.changing:
            await self._retired()
            source = find_below(self.settings.adapter_root, path)
            self._check_free(name)
            version = self._kept.content.versions.get(name, 0) + 1
            folder = self._folder_of(name, version)
            try:
                model = await self._prepare(name, version, source, folder)
            except BaseException as error:  # includes the cancellation when the client leaves
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, AdapterRejected):
                    metrics.ADAPTER_LOADS.labels("rejected").inc()
                raise
            # Nothing is awaited while publishing, so it happens completely or not at all.
            old = self.models.get(name) if name in self.models else None
            self.failed.pop(name, None)
            self._publish(model)
            metrics.ADAPTER_LOADS.labels("loaded").inc()
            if old is not None:
                self._retire(old)
                await self._retired()
            return model

    async def unload(self, name: str) -> None:
        """Unload an adapter. Raises ModelNotFound, or Conflict if settings or an alias use it."""
        async with self._kept.changing:
            await self._retired()
            old = None if name in self.failed else self.models.get(name, "name")
            kept = self._kept.content.adapters.get(name)
            if kept is None:
                raise Conflict(f"{name} is set by the service's settings: change those", "name")
            users = [alias for alias, weights in self.models.aliases.items() if name in weights]
            if users:
                raise Conflict(f"{name} is in use by {', '.join(users)}: move it first", "name")
            self._kept.keep(self._kept.content.without_adapter(name))
            self.failed.pop(name, None)
            if old is None:
                shutil.rmtree(self._folder_of(name, kept.version), ignore_errors=True)
            else:
                self.models.remove(name)
                self._retire(old)
                await self._retired()

    async def _prepare(self, name: str, version: int, source: Path, folder: Path) -> ServedModel:
        """Copy an adapter, check it, load it into the engine and record it; returns the model to
        publish."""
        await to_its_end(asyncio.to_thread(copy_files, source, folder))
        await to_its_end(
            asyncio.to_thread(check_adapter, folder, self.settings, self.settings.max_adapter_rank)
        )
        model = ServedModel(name, version, folder, read_prompts(self._encoder, folder), source)
        await self._prove(model)
        try:
            kept = KeptAdapter(version=version, source=source)
            self._kept.keep(self._kept.content.with_adapter(name, kept))
        except BaseException:
            await to_its_end(self.engine.unload_adapter(str(model.adapter)))
            raise
        return model

    async def _bring_back(self, name: str, kept: KeptAdapter) -> None:
        """Load a kept adapter again and serve it, or note why that failed."""
        folder = self._folder_of(name, kept.version)
        try:
            with step(f"adapter {name}, version {kept.version}"):
                await asyncio.to_thread(check_adapter, folder, self.settings)
                prompts = read_prompts(self._encoder, folder)
                await self._bring(ServedModel(name, kept.version, folder, prompts, kept.source))
        except AdapterRejected as error:
            metrics.ADAPTER_LOADS.labels("rejected").inc()
            self.failed[name] = str(error)
            logger.error("adapter %s is not served: %s", name, error)

    async def _bring(self, model: ServedModel) -> None:
        await self._prove(model)
        self._publish(model)

    async def _prove(self, model: ServedModel) -> None:
        """Load a model into the engine and verify that it changes a score; if not, unload it."""
        adapter = str(model.adapter)
        await self.engine.use_labels(model.labels)
        try:
            await self.engine.load_adapter(adapter, model.folder)
            await check_effect(self.engine, model)
        except BaseException:
            await to_its_end(self.engine.unload_adapter(adapter))
            raise

    def _publish(self, model: ServedModel) -> None:
        self.models.put(model)
        metrics.ADAPTERS.labels(model.name, str(model.version)).set(1)

    def _retire(self, model: ServedModel) -> None:
        """Start a task that unloads a model once no request uses it, and then deletes its files.

        The task goes on if the client that caused it leaves. Only kept adapters are retired, never
        those of the settings.
        """
        metrics.ADAPTERS.remove(model.name, str(model.version))
        self._retiring = asyncio.create_task(self._take_out(model))

    async def _take_out(self, model: ServedModel) -> None:
        try:
            await self.models.until_idle(model)
            await self.engine.unload_adapter(str(model.adapter))
        finally:
            shutil.rmtree(model.folder, ignore_errors=True)

    async def _retired(self) -> None:
        """Wait until the version being retired, if any, has left the engine. So the engine never
        holds more than one version besides those that are served."""
        retiring = self._retiring
        if retiring is not None:
            try:
                await asyncio.shield(retiring)
            finally:
                if retiring.done():
                    self._retiring = None

    def _check_free(self, name: str) -> None:
        if name == self.models.base.name or name in self.settings.adapters:
            raise Conflict(f"{name} is set by the service's settings: use another name", "name")
        if name in self.models.aliases:
            raise Conflict(f"{name} is an alias: use another name", "name")
        others = [model.name for model in self.models if model.version and model.name != name]
        if len(others) >= self.settings.room_for_adapters:
            raise Conflict(f"there is room for {len(others)} adapters: unload one of {others}")

    def _folder_of(self, name: str, version: int) -> Path:
        return self.settings.state / "adapters" / f"{name}@{version}"


async def to_its_end(work: Awaitable[object]) -> None:
    """Await `work`. A cancellation takes effect only once the work has finished."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


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
