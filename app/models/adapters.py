"""Operators' changes to adapters while the service runs, one at a time in each instance."""

import asyncio
import shutil

from app.errors import AdapterRejected, Conflict
from app.models.adapter_folder import check_name, own_copy
from app.models.desired import Desired
from app.models.kept import KeptAdapter, KeptModels
from app.models.loading import to_its_end
from app.models.local import LocalAdapters, fingerprint_of
from app.models.registry import ModelRegistry, ServedModel, model_of
from app.observability import metrics
from app.settings import Settings


class Adapters:
    def __init__(
        self, settings: Settings, models: ModelRegistry, desired: Desired, local: LocalAdapters
    ) -> None:
        self.settings = settings
        self._models = models
        self._desired = desired
        self._local = local

    async def load(self, name: str, path: str) -> ServedModel:
        """Load an adapter and serve it, here at once and at all other instances soon.

        If the client leaves before the adapter is recorded, nothing changes. If it leaves later,
        the adapter is served and the old version retired all the same.

        Raises InvalidValue, Conflict, AdapterRejected, EngineUnavailable or StoreUnavailable;
        nothing has changed then, except that the version's number is not used again.
        """
        check_name(name)
        self._local.loader.engine.check_health()
        async with self._local.loader.changing:
            await self._local.loader.retired()
            source = await asyncio.to_thread(self._local.root.find, path)
            version = await self._reserve(name)
            await self._local.bring_all()
            folder = own_copy(self.settings.state, name, version)
            try:
                await self._local.make_room(name)
                await to_its_end(asyncio.to_thread(self._local.root.copy, source, folder))
                sha256 = await asyncio.to_thread(fingerprint_of, folder)
                kept = KeptAdapter(version=version, source=source, sha256=sha256)
                model = await self._local.prepare(name, kept)
                await self._local.loader.prove(model)
            except BaseException as error:  # includes the cancellation when the client leaves
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, AdapterRejected):
                    metrics.ADAPTER_LOADS.labels("rejected").inc()
                raise
            await to_its_end(self._record(model, kept))
            await self._local.loader.retired()
            return model

    async def unload(self, name: str) -> None:
        """Unload an adapter everywhere. Raises ModelNotFound, EngineUnavailable, StoreUnavailable,
        or Conflict if settings or an alias use it."""
        self._local.loader.engine.check_health()
        async with self._local.loader.changing:
            await self._local.loader.retired()

            def edit(content: KeptModels) -> KeptModels:
                if name not in content.adapters:
                    self._models.get(name, "name")
                check_unused(self.settings, content, name)
                return content.without_adapter(name)

            await to_its_end(self._desired.change(edit))
            await self._local.remove_gone({name})
            await self._local.loader.retired()

    async def _reserve(self, name: str) -> int:
        """A version's number that no other load uses. Raises Conflict or StoreUnavailable."""

        version = 0

        def edit(content: KeptModels) -> KeptModels:
            nonlocal version
            check_free(self.settings, content, name)
            version = content.versions.get(name, 0) + 1
            return content.with_version(name, version)

        await self._desired.change(edit)
        return version

    async def _record(self, model: ServedModel, kept: KeptAdapter) -> None:
        """Make a proven model the desired one, and serve it. If that fails, it is removed."""

        def edit(content: KeptModels) -> KeptModels:
            check_free(self.settings, content, model.name)
            newer = content.adapters.get(model.name)
            if newer is not None and newer.version > model.version:
                raise Conflict(f"another instance has loaded {model.name} in the meantime", "name")
            return content.with_adapter(model.name, kept)

        try:
            await self._desired.change(edit)
        except BaseException:
            await self._local.loader.drop(model)
            shutil.rmtree(model.folder, ignore_errors=True)
            raise
        self._local.publish(model)


def check_free(settings: Settings, content: KeptModels, name: str) -> None:
    """Raises Conflict if no adapter of this name can be loaded."""
    if name == settings.base_name or name in settings.adapters:
        raise Conflict(f"{name} is set by the service's settings: use another name", "name")
    if name in settings.aliases or name in content.aliases:
        raise Conflict(f"{name} is an alias: use another name", "name")
    others = [*settings.adapters, *(known for known in content.adapters if known != name)]
    if len(others) >= settings.room_for_adapters:
        raise Conflict(f"there is room for {len(others)} adapters: unload one of {others}")


def check_unused(settings: Settings, content: KeptModels, name: str) -> None:
    """Raises Conflict if settings or an alias use an adapter."""
    if name not in content.adapters:
        raise Conflict(f"{name} is set by the service's settings: change those", "name")
    aliases = {**settings.aliases, **content.aliases}
    users = [alias for alias, weights in aliases.items() if name in map(model_of, weights)]
    if users:
        raise Conflict(f"{name} is in use by {', '.join(users)}: move it first", "name")
