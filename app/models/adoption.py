"""Taking over the adapters and aliases that earlier versions kept in `registry.json`.

The file is renamed once they are in the store. If the process ends in between, the next start finds
them there and adds nothing twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from app.models.adapter_folder import fingerprint, own_copy
from app.models.adapter_source import AdapterRoot
from app.models.kept import KeptAdapter, KeptModels
from app.settings import Settings

logger = logging.getLogger("frontpage")

REGISTRY = "registry.json"

Change = Callable[[Callable[[KeptModels], KeptModels]], Awaitable[None]]


async def adopt(settings: Settings, change: Change) -> None:
    """Add to the store what it lacks of `registry.json`, if there is one, and rename the file.

    What the store has already wins: another instance has brought it, or a later change.
    Raises StartupError and StoreUnavailable; the file is left as it is then.
    """
    file = settings.state / REGISTRY
    if not file.exists():
        return
    former = await asyncio.to_thread(read_former, file, settings)

    def add(content: KeptModels) -> KeptModels:
        for name, kept in former.adapters.items():
            if name not in content.versions and name not in content.aliases:
                content = content.with_adapter(name, kept)
        for name, version in former.versions.items():
            content = content.with_version(name, max(version, content.versions.get(name, 0)))
        for alias, weights in former.aliases.items():
            if alias not in content.aliases and alias not in content.adapters:
                content = content.with_alias(alias, weights)
        return content

    await change(add)
    file.rename(file.with_name(f"{REGISTRY}.adopted"))
    logger.warning(
        "%d adapters and %d aliases of %s were taken over into the store",
        len(former.adapters),
        len(former.aliases),
        file,
    )


def read_former(file: Path, settings: Settings) -> KeptModels:
    """What the file holds, with the fingerprints of the copies that lie beside it."""
    found, root = KeptModels.read(file), AdapterRoot(settings.adapter_root)
    for name, kept in found.adapters.items():
        sha256 = None
        with suppress(OSError):
            sha256 = fingerprint(own_copy(settings.state, name, kept.version))
        source = root.shorten(kept.source)
        adopted = KeptAdapter(version=kept.version, source=source, sha256=sha256)
        found = found.with_adapter(name, adopted)
    return found
