"""The adapters loaded and aliases set while serving, which are kept across restarts."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import Conflict, StartupError
from app.files import write_whole

Weights = Mapping[str, float]


class KeptAdapter(BaseModel):
    """An adapter whose copy is in the state folder. source: the folder it was copied from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    source: Path


class KeptModels(BaseModel):
    """The content of registry.json. versions: the highest version that each name has used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: dict[str, int] = {}
    adapters: dict[str, KeptAdapter] = {}
    aliases: dict[str, dict[str, float]] = {}

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the file; empty if there is none. Raises StartupError for an invalid file."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return cls()
        except (ValidationError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise StartupError(f"{file} can't be read ({reason}): mend or remove it") from None

    def with_adapter(self, name: str, kept: KeptAdapter) -> Self:
        return self.model_copy(
            update={
                "versions": {**self.versions, name: kept.version},
                "adapters": {**self.adapters, name: kept},
            }
        )

    def without_adapter(self, name: str) -> Self:
        adapters = {known: kept for known, kept in self.adapters.items() if known != name}
        return self.model_copy(update={"adapters": adapters})

    def with_aliases(self, aliases: Mapping[str, Weights]) -> Self:
        return self.model_copy(update={"aliases": aliases})


class KeptFile:
    """registry.json and what it holds now. Whoever changes it holds `changing` for so long."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.content = KeptModels()
        self.changing = asyncio.Lock()

    def read(self) -> None:
        """Raises StartupError."""
        self.content = KeptModels.read(self.file)

    def keep(self, content: KeptModels) -> None:
        """Record a change, on disk first. Raises Conflict if the file can't be written."""
        try:
            write_whole(self.file, content.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise Conflict(f"nothing changed: can't write {self.file}: {error.strerror}") from None
        self.content = content
