"""The adapters of this instance, brought to what is desired of all instances."""

import asyncio
import logging
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.engine.base import Engine
from app.errors import AdapterRejected, ClientError, Conflict, StartupError
from app.models.adapter_folder import check_adapter, fingerprint, own_copy
from app.models.adapter_source import AdapterRoot
from app.models.aliases import Aliases
from app.models.desired import Desired
from app.models.folders import LoadRanking, read_prompts, read_ranking
from app.models.kept import KeptAdapter, KeptModels
from app.models.loading import Loader, to_its_end
from app.models.registry import ModelRegistry, ServedModel
from app.observability import metrics
from app.observability.progress import step
from app.settings import Settings

logger = logging.getLogger("frontpage")

RETRY_S = 2.0
MAX_RETRY_S = 300.0
"""An adapter that fails is tried again after RETRY_S, then after twice as long each time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version can't be served here, and when it is tried again, by time.monotonic()."""

    version: int
    reason: str
    delay_s: float
    retry_at: float


@dataclass(frozen=True, slots=True)
class AdapterStatus:
    """What this instance does with an adapter.

    version: the one served, or if there is none, the one that should be.
    """

    name: str
    version: int
    source: str
    status: Literal["serving", "loading", "failed"]
    error: str | None = None


class LocalAdapters:
    """Whoever changes what is served holds `loader.changing` for so long, and calls the methods
    that are not `start`, `stop`, `statuses` and `bring` only then."""

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        engine: Engine,
        desired: Desired,
        aliases: Aliases,
        load_ranking: LoadRanking,
    ) -> None:
        self.settings = settings
        self.models = models
        self.desired = desired
        self.root = AdapterRoot(settings.adapter_root)
        self.failed: dict[str, Failure] = {}
        self._aliases = aliases
        self.loader = Loader(models, engine)
        self._encoder = models.base.prompts.encoder
        self._load_ranking = load_ranking

    async def start(self) -> None:
        """Load the adapters in the settings, then the desired ones.

        Raises StartupError, except for a desired adapter that fails, which is left out.
        """
        for name, folder in self.settings.adapters.items():
            model = self.models.get(name)
            try:
                with step(f"adapter {name} from {folder}"):
                    await self.loader.prove(model)
                    self.loader.publish(model)
            except AdapterRejected as error:
                raise StartupError(str(error)) from error
        await asyncio.to_thread(remove_old_copies, self.settings.state, self.desired.content)
        await self.bring()

    async def stop(self) -> None:
        await self.loader.stop()

    def statuses(self) -> list[AdapterStatus]:
        """Of the adapters served here, then of those that only should be."""
        served, content = self._served(), self.desired.content
        found = [self._status(model.name, model.version, model.source) for model in served]
        return found + [
            self._status(name, kept.version, self.root.describe(kept.source), False)
            for name, kept in content.adapters.items()
            if name not in self.models
        ]

    def _status(
        self, name: str, version: int, source: str, is_served: bool = True
    ) -> AdapterStatus:
        failure = self.failed.get(name)
        if failure is None:
            return AdapterStatus(name, version, source, "serving" if is_served else "loading")
        prefix = f"version {failure.version}: " if is_served else ""
        return AdapterStatus(name, version, source, "failed", prefix + failure.reason)

    async def bring(self) -> None:
        """Load what is desired and not served here, and unload what is not desired any more.

        What fails is in `failed`. Raises EngineUnavailable.
        """
        async with self.loader.changing:
            await self.bring_all()

    def retry_in(self) -> float | None:
        """After how many seconds `bring` should be called again, if anything failed."""
        times = [failure.retry_at for failure in self.failed.values()]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def publish(self, model: ServedModel) -> None:
        self.loader.publish(model)
        self.failed.pop(model.name, None)
        self._aliases.apply()
        metrics.ADAPTER_LOADS.labels("loaded").inc()

    async def bring_all(self) -> None:
        await self.remove_gone()
        for name in list(self.failed):
            if name not in self.desired.content.adapters:
                del self.failed[name]
        for name in list(self.desired.content.adapters):
            kept = self.desired.content.adapters.get(name)
            if kept is not None and self._is_due(name, kept):
                await self._bring_one(name, kept)
                await self.remove_gone()

    def _is_due(self, name: str, kept: KeptAdapter) -> bool:
        is_ours = name not in self.settings.adapters and name in self.models
        if is_ours and self.models.get(name).version == kept.version:
            self.failed.pop(name, None)
            return False
        failure = self.failed.get(name)
        if failure is None or failure.version != kept.version:
            return True
        return failure.retry_at <= time.monotonic()

    async def _bring_one(self, name: str, kept: KeptAdapter) -> None:
        """Load a desired version and serve it, or note why that failed."""
        folder = own_copy(self.settings.state, name, kept.version)
        try:
            with step(f"adapter {name}, version {kept.version}"):
                await self.make_room(name)
                await to_its_end(asyncio.to_thread(self._copy, kept, folder))
                model = await self.prepare(name, kept)
                await self.loader.prove(model)
            self.publish(model)
        except ClientError as error:
            metrics.ADAPTER_LOADS.labels("rejected").inc()
            self._note_failure(name, kept.version, str(error))

    def _note_failure(self, name: str, version: int, reason: str) -> None:
        before = self.failed.get(name)
        again = before is not None and before.version == version
        delay_s = min(2 * before.delay_s, MAX_RETRY_S) if before and again else RETRY_S
        self.failed[name] = Failure(version, reason, delay_s, time.monotonic() + delay_s)
        if not (before and again and before.reason == reason):
            logger.error("adapter %s, version %d, is not served: %s", name, version, reason)

    def _copy(self, kept: KeptAdapter, folder: Path) -> None:
        """Have this instance's own copy of a version. Raises AdapterRejected, Conflict or
        InvalidValue."""
        try:
            if kept.sha256 in (None, fingerprint(folder)):
                return
        except OSError:  # there is none, or not all of it
            pass
        self.root.copy(kept.source, folder)
        if kept.sha256 not in (None, fingerprint_of(folder)):
            shutil.rmtree(folder, ignore_errors=True)
            place = self.root.describe(kept.source)
            raise AdapterRejected(
                f"the files in {place} have changed since version {kept.version} was loaded: load"
                " them as a new version",
                "path",
            )

    async def prepare(self, name: str, kept: KeptAdapter) -> ServedModel:
        """Check a copy; returns the model to prove and publish. Raises AdapterRejected."""
        folder = own_copy(self.settings.state, name, kept.version)
        rank = self.settings.max_adapter_rank
        await to_its_end(asyncio.to_thread(check_adapter, folder, self.settings, rank))
        source = self.root.describe(kept.source)
        prompts = read_prompts(self._encoder, folder)
        ranking = await asyncio.to_thread(read_ranking, self._load_ranking, folder)
        return ServedModel(name, kept.version, folder, prompts, source, ranking)

    async def make_room(self, name: str) -> None:
        """Raises Conflict. The engine has room for one more than may be served, in which the next
        one waits for its turn."""
        if name == self.settings.base_name or name in self.settings.adapters:
            raise Conflict(f"{name} is set by this instance's settings", "name")
        room = self.settings.room_for_adapters
        if len(self._served()) > room:
            await self.remove_gone({model.name for model in self._gone()})
        gone = {model.name for model in self._gone()}
        lasting = {model.name for model in self._served()} - {name} - gone
        if len(lasting) >= room:
            raise Conflict(f"there is room for {room} adapters: {', '.join(sorted(lasting))}")

    def _served(self) -> list[ServedModel]:
        return [model for model in self.models if model.version]

    def _gone(self) -> list[ServedModel]:
        wanted = {*self.settings.adapters, *self.desired.content.adapters}
        return [model for model in self._served() if model.name not in wanted]

    async def remove_gone(self, at_once: Collection[str] = ()) -> None:
        """Unload what is not desired any more, but what an alias needs whose new models are not
        served here yet. at_once: names that are unloaded also then."""
        for model in self._gone():
            if model.name in at_once or model.name not in self._aliases.held():
                await self.loader.retired()
                self.loader.remove(model)
                self._aliases.apply()


def fingerprint_of(folder: Path) -> str:
    """Raises AdapterRejected if files are missing."""
    try:
        return fingerprint(folder)
    except OSError as error:
        raise AdapterRejected(f"can't read {error.filename or error}", "path") from error


def remove_old_copies(state: Path, content: KeptModels) -> None:
    """Delete copies of versions that were replaced while this instance was away."""
    for folder in (state / "adapters").glob("*@*"):
        name, _, number = folder.name.rpartition("@")
        kept = content.adapters.get(name)
        is_known = number.isdecimal() and int(number) <= content.versions.get(name, 0)
        if is_known and (kept is None or kept.version != int(number)):
            shutil.rmtree(folder, ignore_errors=True)
