"""Adapters and aliases that are declared in a file, as one way to write the desired state.

Of a declaration, only what has changed since it was last written is written. So changes made over
HTTP stay until the declaration of the same name changes, and all replicas can bring the same
declaration, now or after a restart: the first one writes it, and the others find nothing to do.
"""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import ClientError, StartupError
from app.models.adapter_folder import check_adapter, check_name
from app.models.adapter_source import AdapterRoot
from app.models.adapters import check_free, check_unused
from app.models.alias_weights import AliasWeights
from app.models.aliases import check_alias, check_removable
from app.models.desired import Desired
from app.models.kept import Declared, KeptAdapter, KeptModels
from app.models.local import LocalAdapters, fingerprint_of
from app.observability import metrics
from app.settings import Settings


class DeclaredAlias(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: AliasWeights


class Declaration(BaseModel):
    """adapters: name → folder below adapter_root. aliases: alias → body of PUT /aliases/{alias}."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapters: dict[str, str] = {}
    aliases: dict[str, DeclaredAlias] = {}

    @classmethod
    def read(cls, given: object) -> Self:
        """Validate a declaration. Raises StartupError, which names the invalid field."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise StartupError(f"user_config: {place}: {first['msg']}") from None

    @property
    def weights(self) -> dict[str, dict[str, float]]:
        """Alias → its weights above 0."""
        return {
            alias: {name: weight for name, weight in given.weights.items() if weight > 0}
            for alias, given in self.aliases.items()
        }


async def declare(declaration: Declaration, desired: Desired, local: LocalAdapters) -> list[str]:
    """Write a declaration into the desired state, and bring this instance there; returns the
    problems.

    What can't be written leaves things as they were: if an adapter's files are rejected, its old
    version is still served. Raises EngineUnavailable and StoreUnavailable.
    """
    await desired.refresh()
    found: dict[str, KeptAdapter] = {}
    rejected: list[str] = []
    for name, path in declaration.adapters.items():
        if desired.content.declared.adapters.get(name) != path:
            try:
                found[name] = await asyncio.to_thread(inspect, local.settings, name, path)
            except ClientError as error:
                rejected.append(f"adapter {name}: {error}")
    writing = Writing(local.settings, declaration, found)
    await desired.change(writing.edit)
    problems = rejected + writing.problems
    metrics.ADAPTER_LOADS.labels("rejected").inc(len(problems))
    await local.bring()
    failed = {name: one.reason for name, one in local.failed.items()}
    return problems + [
        f"adapter {name}: {failed[name]}" for name in declaration.adapters if name in failed
    ]


def inspect(settings: Settings, name: str, path: str) -> KeptAdapter:
    """Check a source's files; returns it with their fingerprint, and version 0. Raises
    ClientError."""
    check_name(name)
    root = AdapterRoot(settings.adapter_root)
    source = root.find(path)
    with tempfile.TemporaryDirectory(prefix="frontpage-adapter-") as folder:
        root.copy(source, Path(folder))
        check_adapter(Path(folder), settings, settings.max_adapter_rank)
        return KeptAdapter(version=0, source=source, sha256=fingerprint_of(Path(folder)))


@dataclass
class Writing:
    """found: the new adapters of the declaration whose files can be served."""

    settings: Settings
    declaration: Declaration
    found: dict[str, KeptAdapter]
    problems: list[str] = field(default_factory=list)

    def edit(self, content: KeptModels) -> KeptModels:
        """Write what has changed since the declaration was last written."""
        self.problems = []
        for name in self.found:
            content = self._attempt(f"adapter {name}", self._set_adapter, content, name)
        for alias in self.declaration.weights:
            content = self._attempt(f"alias {alias}", self._set_alias, content, alias)
        for alias in content.declared.aliases.keys() - self.declaration.aliases.keys():
            content = self._attempt(f"alias {alias}", self._drop_alias, content, alias)
        for name in content.declared.adapters.keys() - self.declaration.adapters.keys():
            content = self._attempt(f"adapter {name}", self._drop_adapter, content, name)
        return content

    def _attempt(
        self, what: str, change: Callable[[KeptModels, str], KeptModels], old: KeptModels, name: str
    ) -> KeptModels:
        try:
            return change(old, name)
        except ClientError as error:
            self.problems.append(f"{what}: {error}")
            return old

    def _set_adapter(self, content: KeptModels, name: str) -> KeptModels:
        path, found = self.declaration.adapters[name], self.found[name]
        if content.declared.adapters.get(name) == path:
            return content  # another replica was faster
        now = content.adapters.get(name)
        if now is None or (now.source, now.sha256) != (found.source, found.sha256):
            check_free(self.settings, content, name)
            version = content.versions.get(name, 0) + 1
            content = content.with_adapter(name, found.model_copy(update={"version": version}))
        return with_declared(content, adapters={**content.declared.adapters, name: path})

    def _set_alias(self, content: KeptModels, alias: str) -> KeptModels:
        weights = self.declaration.weights[alias]
        if content.declared.aliases.get(alias) == weights:
            return content
        check_name(alias, "alias")
        check_alias(self.settings, content, alias, weights)
        content = content.with_alias(alias, weights)
        return with_declared(content, aliases={**content.declared.aliases, alias: weights})

    def _drop_alias(self, content: KeptModels, alias: str) -> KeptModels:
        """Remove an alias that is declared no more, unless it was changed otherwise since."""
        declared = dict(content.declared.aliases)
        if content.aliases.get(alias) == declared.pop(alias):
            if alias not in self.settings.aliases:
                check_removable(self.settings, content, alias)
            content = content.without_alias(alias)
        return with_declared(content, aliases=declared)

    def _drop_adapter(self, content: KeptModels, name: str) -> KeptModels:
        """Likewise."""
        declared = dict(content.declared.adapters)
        path, now = declared.pop(name), content.adapters.get(name)
        if now is not None and now.source == AdapterRoot(self.settings.adapter_root).shorten(path):
            check_unused(self.settings, content, name)
            content = content.without_adapter(name)
        return with_declared(content, adapters=declared)


def with_declared(content: KeptModels, **changes: object) -> KeptModels:
    declared: Declared = content.declared.model_copy(update=changes)
    return content.model_copy(update={"declared": declared})
