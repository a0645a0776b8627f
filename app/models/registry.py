"""The models that requests can name: the base (or merged) model, its adapters, and aliases.

An alias stands for one model or, in an experiment, for several with weights.
"""

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ModelNotFound
from app.knowledge.ranking import Ranking
from app.scoring.prompt import PromptBuilder

TEXT_ALONE = ":text"
"""What a model's name ends with where the language model is to judge without the ranker."""
DEFAULT_ALIAS = "default"
"""If an alias has this name, it answers requests that name no model."""


@dataclass(frozen=True)
class ServedModel:
    """The base or merged model (version 0), or one version of an adapter on it."""

    name: str
    version: int
    folder: Path
    prompts: PromptBuilder
    source: str
    """The folder or URL it was loaded from, of which `folder` may be a copy."""
    ranking: Ranking | None = None

    @property
    def adapter(self) -> str | None:
        """The engine's name for it, or None for the base. A name is never reused, because the
        engine's prefix cache depends on it."""
        return f"{self.name}@{self.version}" if self.version else None

    @property
    def labels(self) -> tuple[int, int]:
        return self.prompts.yes, self.prompts.no


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers a request, and the alias that the request named, if any.

    text_alone: the language model is to judge without the ranker.
    """

    model: ServedModel
    alias: str | None
    text_alone: bool = False

    @property
    def ranking(self) -> Ranking | None:
        return None if self.text_alone else self.model.ranking

    @property
    def name(self) -> str:
        """What answers are reported under."""
        without = self.text_alone and self.model.ranking is not None
        return self.model.name + (TEXT_ALONE if without else "")

    def without_ranker(self) -> "Choice":
        return replace(self, text_alone=True)


class ModelRegistry:
    """The models and aliases being served.

    Each change is a single assignment, so that a request sees all of it or nothing.
    """

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
        """name: may end with TEXT_ALONE."""
        return model_of(name) in self._models

    def get(self, name: str, param: str = "model") -> ServedModel:
        """The model of this name; aliases don't count. Raises ModelNotFound."""
        model = self._models.get(model_of(name))
        if model is None:
            names = ", ".join([*self._models, *self.aliases])
            raise ModelNotFound(f"no model {name!r}; there are {names}", param)
        return model

    def put(self, model: ServedModel) -> None:
        self._models = {**self._models, model.name: model}

    def remove(self, name: str) -> None:
        self._models = {known: model for known, model in self._models.items() if known != name}

    def choose(self, name: str | None, reader_id: str) -> Choice:
        """Choose the model for a request. An alias always gives the same reader the same model.

        name: of a model or an alias, or None for the default. Raises ModelNotFound.
        """
        if name is None:
            name = DEFAULT_ALIAS if DEFAULT_ALIAS in self.aliases else self.default
        weights = self.aliases.get(name)
        if weights is None:
            return Choice(self.get(name), None, name.endswith(TEXT_ALONE))
        served = {model: weight for model, weight in weights.items() if model in self}
        if not served:
            raise ModelNotFound(f"no model of alias {name!r} is served", "model")
        chosen = assign(name, served, reader_id)
        return Choice(self.get(chosen), name, chosen.endswith(TEXT_ALONE))

    @contextmanager
    def at_work(self, model: ServedModel) -> Iterator[None]:
        """Keep the model's adapter in the engine while the context lasts."""
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
        """Wait until no request uses a model that has been removed from the registry."""
        if model.adapter in self._at_work:
            self._idle[model.adapter] = asyncio.Event()
            await self._idle[model.adapter].wait()
            del self._idle[model.adapter]


def model_of(name: str) -> str:
    """A model's name without TEXT_ALONE."""
    return name.removesuffix(TEXT_ALONE)


def assign(alias: str, weights: Mapping[str, float], reader_id: str) -> str:
    """Choose a reader's model by weighted rendezvous hashing, so that readers keep their models as
    far as the weights allow: raising a model's weight only moves readers to that model."""

    def score(model: str) -> float:
        key = f"{alias}\0{model}\0{reader_id}".encode()
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return weights[model] / -math.log((number + 0.5) / 2**64)

    return max(sorted(weights), key=score)
