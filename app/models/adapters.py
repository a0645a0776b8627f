"""Adapters and aliases: loaded at the start and while serving, checked, kept across restarts.

A failed load changes nothing. Each load is a version of its own, with its own name towards the
engine and its own copy of the files, so that no cached prefix of another can answer.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from pathlib import Path

from app.engine.base import Engine
from app.errors import (
    AdapterRejected,
    Conflict,
    EngineUnavailable,
    InvalidValue,
    ModelNotFound,
    StartupError,
)
from app.models.adapter_folder import check_adapter, check_name, copy_files, find_below
from app.models.folders import read_prompts
from app.models.kept import Kept, State
from app.models.registry import ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.progress import step
from app.scoring.wording import Reader, Story
from app.settings import Settings

logger = logging.getLogger("frontpage")
PROBE = Reader(history=[Story("Tesla unveils a cheaper electric car")])
PROBE_TARGET = Story("Microsoft builds a wind farm")


class Adapters:
    """What operators do with adapters and aliases while the service runs; one change at a time."""

    def __init__(self, settings: Settings, models: ModelRegistry, engine: Engine) -> None:
        self.settings = settings
        self.models = models
        self.engine = engine
        self.failed: dict[str, str] = {}
        """Kept adapters that could not be loaded at this start, and why."""
        self._encoder = models.base.prompts.encoder
        self._file = settings.state / "registry.json"
        self._state = State()
        self._changing = asyncio.Lock()
        self._retiring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the settings' adapters, then those kept from before; kept aliases go before the
        settings'. Raises StartupError; a kept adapter that fails is left out instead."""
        self._state = State.read(self._file)
        self.models.aliases |= self._state.aliases
        await self.engine.use_labels(self.models.base.labels)
        for name, folder in self.settings.adapters.items():
            try:
                with step(f"adapter {name} from {folder}"):
                    prompts = read_prompts(self._encoder, folder)
                    await self._bring(ServedModel(name, 1, folder, prompts, folder))
            except AdapterRejected as error:
                raise StartupError(str(error)) from error
        for name, kept in self._state.adapters.items():
            if name not in self.models:
                await self._bring_back(name, kept)
        for alias, weights in self.models.aliases.items():
            if alias in self.models:
                raise StartupError(f"alias {alias!r} has a model's name")
            if not any(name in self.models for name in weights):
                raise StartupError(f"alias {alias!r}: none of {', '.join(weights)} is served")

    async def stop(self) -> None:
        """An old version that still waits for its requests is given up."""
        if self._retiring is not None:
            self._retiring.cancel()
            with suppress(asyncio.CancelledError, EngineUnavailable):
                await self._retiring

    def list_failed(self) -> list[tuple[str, Kept, str]]:
        """Name, where it came from, why it is not served."""
        kept = self._state.adapters
        return [(name, kept[name], error) for name, error in self.failed.items()]

    async def load(self, name: str, path: str) -> ServedModel:
        """Load an adapter and serve it.

        If the client leaves before it is published, all stays as it was; if it leaves afterwards,
        the old version is retired all the same.

        Raises InvalidValue, Conflict or AdapterRejected; then all is as it was before.
        """
        check_name(name)
        async with self._changing:
            await self._retired()
            source = find_below(self.settings.adapter_root, path)
            self._check_free(name)
            version = self._state.versions.get(name, 0) + 1
            folder = self._folder_of(name, version)
            try:
                model = await self._prepare(name, version, source, folder)
            except BaseException as error:  # a client that leaves, too
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, AdapterRejected):
                    metrics.ADAPTER_LOADS.labels("rejected").inc()
                raise
            # Nothing is awaited from here to the end of publishing: it happens whole or not at all.
            old = self.models.get(name) if name in self.models else None
            self.failed.pop(name, None)
            self._publish(model)
            metrics.ADAPTER_LOADS.labels("loaded").inc()
            if old is not None:
                self._retire(old)
                await self._retired()
            return model

    async def unload(self, name: str) -> None:
        """Raises ModelNotFound, or Conflict for a model that settings or an alias use."""
        async with self._changing:
            await self._retired()
            old = None if name in self.failed else self.models.get(name, "name")
            kept = self._state.adapters.get(name)
            if kept is None:
                raise Conflict(f"{name} is set by the service's settings: change those", "name")
            users = [alias for alias, weights in self.models.aliases.items() if name in weights]
            if users:
                raise Conflict(f"{name} is in use by {', '.join(users)}: move it first", "name")
            self._keep(self._state.without_adapter(name))
            self.failed.pop(name, None)
            if old is None:
                shutil.rmtree(self._folder_of(name, kept.version), ignore_errors=True)
            else:
                self.models.remove(name)
                self._retire(old)
                await self._retired()

    async def set_alias(self, alias: str, weights: Mapping[str, float]) -> None:
        """From the next request on; those at work end as they began. Raises ModelNotFound,
        Conflict, InvalidValue."""
        check_name(alias, "alias")
        async with self._changing:
            if alias in self.models or alias in self.failed:
                raise Conflict(f"{alias} is a model's name", "alias")
            for name in weights:
                self.models.get(name, f"weights.{name}")
            used = {name: weight for name, weight in weights.items() if weight > 0}
            if not used:
                raise InvalidValue("weights: at least one must be above 0", "weights")
            self._set_aliases({**self.models.aliases, alias: used})

    async def remove_alias(self, alias: str) -> None:
        """Raises ModelNotFound, or Conflict for one that settings need."""
        async with self._changing:
            if alias not in self.models.aliases:
                raise ModelNotFound(f"no alias {alias!r}", "alias")
            if alias == self.models.default or alias in self.settings.aliases:
                raise Conflict(f"{alias} is set by the service's settings: change those", "alias")
            aliases = self.models.aliases
            self._set_aliases({name: aliases[name] for name in aliases if name != alias})

    async def _prepare(self, name: str, version: int, source: Path, folder: Path) -> ServedModel:
        """Copied, checked, in the engine and on record; all that is missing is to publish it."""
        await to_its_end(asyncio.to_thread(copy_files, source, folder))
        await to_its_end(
            asyncio.to_thread(check_adapter, folder, self.settings, self.settings.max_adapter_rank)
        )
        model = ServedModel(name, version, folder, read_prompts(self._encoder, folder), source)
        await self._prove(model)
        try:
            self._keep(self._state.with_adapter(name, Kept(version=version, source=source)))
        except BaseException:
            await to_its_end(self.engine.unload_adapter(str(model.adapter)))
            raise
        return model

    async def _bring_back(self, name: str, kept: Kept) -> None:
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
        """Load it into the engine; it must change a score, else it is taken out again."""
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
        """Take it out of the engine once no request uses it, and then its files away. That goes on
        when the client that asked for it leaves. Only kept adapters retire, never the settings'."""
        metrics.ADAPTERS.remove(model.name, str(model.version))
        self._retiring = asyncio.create_task(self._take_out(model))

    async def _take_out(self, model: ServedModel) -> None:
        try:
            await self.models.until_idle(model)
            await self.engine.unload_adapter(str(model.adapter))
        finally:
            shutil.rmtree(model.folder, ignore_errors=True)

    async def _retired(self) -> None:
        """Until the version that retires, if there is one, has left. So the engine never holds more
        than one version beyond those that are served."""
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

    def _set_aliases(self, aliases: Mapping[str, Mapping[str, float]]) -> None:
        self._keep(self._state.with_aliases(aliases))
        self.models.aliases = {alias: dict(weights) for alias, weights in aliases.items()}

    def _keep(self, state: State) -> None:
        """On disk first, then here. Raises Conflict where it can't be written."""
        try:
            state.write(self._file)
        except OSError as error:
            raise Conflict(f"nothing changed: can't write {self._file}: {error.strerror}") from None
        self._state = state

    def _folder_of(self, name: str, version: int) -> Path:
        return self.settings.state / "adapters" / f"{name}@{version}"


async def to_its_end(work: Awaitable[object]) -> None:
    """Like `await`, but a cancellation only comes through once the work has ended."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def check_effect(engine: Engine, model: ServedModel) -> None:
    """vLLM silently ignores an adapter whose tensor names do not match (vLLM issue 34186)."""
    prompts = model.prompts.build(PROBE, [PROBE_TARGET], engine.max_prompt_tokens)
    with_adapter, without = [
        (await engine.score(prompts, model.labels, adapter, "probe"))[0]
        for adapter in (model.adapter, None)
    ]
    if (with_adapter.log_yes, with_adapter.log_no) == (without.log_yes, without.log_no):
        raise AdapterRejected(
            f"adapter {model.name} changes no score: it does not do anything to the base model",
            "path",
        )
