"""The adapters and aliases that all instances should serve, as the store keeps them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import StartupError
from app.files import first_line

Weights = Mapping[str, float]


class KeptAdapter(BaseModel):
    """One version of an adapter.

    source: its folder, below each instance's adapter_root. sha256: of its files, or None if an
    earlier version of the service kept it and its copy was lost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    source: str
    sha256: str | None = None


class Declared(BaseModel):
    """What was written of a declaration, as it was declared. adapters: name → source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapters: dict[str, str] = {}
    aliases: dict[str, dict[str, float]] = {}


class KeptModels(BaseModel):
    """The content of a revision.

    versions: the highest version that each name has used, or that a load in progress uses.
    aliases: without those that only the settings name. declared: see app/models/declared.py.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: dict[str, int] = {}
    adapters: dict[str, KeptAdapter] = {}
    aliases: dict[str, dict[str, float]] = {}
    declared: Declared = Declared()

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the registry.json of an earlier version of the service; empty if there is none.
        Raises StartupError for an invalid file."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return cls()
        except (ValidationError, OSError) as error:
            raise StartupError(
                f"{file} can't be read ({first_line(error)}): mend or remove it"
            ) from None

    def with_version(self, name: str, version: int) -> Self:
        return self.model_copy(update={"versions": {**self.versions, name: version}})

    def with_adapter(self, name: str, kept: KeptAdapter) -> Self:
        used = max(kept.version, self.versions.get(name, 0))
        adapters = {**self.adapters, name: kept}
        return self.with_version(name, used).model_copy(update={"adapters": adapters})

    def without_adapter(self, name: str) -> Self:
        adapters = {known: kept for known, kept in self.adapters.items() if known != name}
        return self.model_copy(update={"adapters": adapters})

    def with_alias(self, alias: str, weights: Weights) -> Self:
        return self.model_copy(update={"aliases": {**self.aliases, alias: dict(weights)}})

    def without_alias(self, alias: str) -> Self:
        aliases = {known: weights for known, weights in self.aliases.items() if known != alias}
        return self.model_copy(update={"aliases": aliases})
