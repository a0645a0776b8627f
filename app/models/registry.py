"""Which models can be asked for, by name: the base (or merged) model, its adapters, and aliases.

An alias stands for one model or, as an experiment, for several with weights.
"""

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelNotFound
from app.scoring.prompt import PromptBuilder

DEFAULT_ALIAS = "default"
"""If there is an alias of this name, it answers requests that name no model."""


@dataclass(frozen=True)
class ServedModel:
    """The base or merged model (version 0), or one version of an adapter on it."""

    name: str
    version: int
    folder: Path
    prompts: PromptBuilder
    source: Path
    """Where it came from; `folder` may be a copy."""

    @property
    def adapter(self) -> str | None:
        """The engine's name for it, never used for anything else: its prefix cache goes by it."""
        return f"{self.name}@{self.version}" if self.version else None

    @property
    def labels(self) -> tuple[int, int]:
        return self.prompts.yes, self.prompts.no


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers a request, and the alias it was asked for by."""

    model: ServedModel
    alias: str | None


class ModelRegistry:
    """Changes are single assignments between two awaits: a request sees all of one or nothing."""

    def __init__(self, base: ServedModel, default: str, aliases: Mapping[str, Mapping[str, float]]):
        self.base = base
        self.default = default
        self.aliases = {alias: dict(weights) for alias, weights in aliases.items()}
        self._models = {base.name: base}
        self._at_work: Counter[str | None] = Counter()
        self._idle: dict[str | None, asyncio.Event] = {}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def get(self, name: str, param: str = "model") -> ServedModel:
        """Raises ModelNotFound."""
        if name not in self._models:
            names = ", ".join([*self._models, *self.aliases])
            raise ModelNotFound(f"no model {name!r}; there are {names}", param)
        return self._models[name]

    def put(self, model: ServedModel) -> None:
        self._models = {**self._models, model.name: model}

    def remove(self, name: str) -> None:
        self._models = {known: model for known, model in self._models.items() if known != name}

    def choose(self, name: str | None, reader_id: str) -> Choice:
        """name: a model's or an alias's; None: the default. Of an alias's models the same reader
        gets the same one. Raises ModelNotFound."""
        if name is None:
            name = DEFAULT_ALIAS if DEFAULT_ALIAS in self.aliases else self.default
        weights = self.aliases.get(name)
        if weights is None:
            return Choice(self.get(name), None)
        served = {model: weight for model, weight in weights.items() if model in self._models}
        if not served:
            raise ModelNotFound(f"no model of alias {name!r} is served", "model")
        return Choice(self._models[assign(name, served, reader_id)], name)

    @contextmanager
    def at_work(self, model: ServedModel) -> Iterator[None]:
        """While inside, the model's adapter stays in the engine."""
        self._at_work[model.adapter] += 1
        try:
            yield
        finally:
            self._at_work[model.adapter] -= 1
            if not self._at_work[model.adapter]:
                del self._at_work[model.adapter]
                if model.adapter in self._idle:
                    self._idle[model.adapter].set()

    async def until_idle(self, model: ServedModel) -> None:
        """After it is no longer in the registry."""
        if model.adapter in self._at_work:
            self._idle[model.adapter] = asyncio.Event()
            await self._idle[model.adapter].wait()
            del self._idle[model.adapter]


def assign(alias: str, weights: Mapping[str, float], reader_id: str) -> str:
    """Weighted rendezvous hashing: a reader keeps the model for as long as weights allow. Raising a
    model's weight moves readers to it and none between others."""

    def score(model: str) -> float:
        key = f"{alias}\0{model}\0{reader_id}".encode()
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return weights[model] / -math.log((number + 0.5) / 2**64)

    return max(sorted(weights), key=score)
