"""Adapters and aliases declared for all replicas alike, against what this one serves.

Where many replicas answer, a change made at one of them would make it differ from the others. So
there they are declared in one place, and each replica brings itself there.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import AdapterRejected, ClientError, StartupError
from app.models.adapter_folder import find_below
from app.models.adapters import Adapters
from app.observability import metrics

logger = logging.getLogger("frontpage")


AliasWeights = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]],
    Field(min_length=1, max_length=100),
]
"""Model → its share of readers; the shares need not add up to anything."""


class DesiredAlias(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: AliasWeights


class Desired(BaseModel):
    """adapters: name → folder below adapter_root. aliases: as the body of PUT /aliases/{alias}."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapters: dict[str, str] = {}
    aliases: dict[str, DesiredAlias] = {}

    @classmethod
    def read(cls, given: object) -> Self:
        """Raises StartupError, which names the field."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise StartupError(f"user_config: {field}: {first['msg']}") from None


async def apply(desired: Desired, adapters: Adapters) -> list[str]:
    """Loads what is new, moves the aliases, unloads what is gone; returns what could not be done.

    What can't be done leaves all as it was: an adapter that is rejected leaves the old one serving,
    an alias that would need it goes on as before. Raises EngineUnavailable.
    """
    models, settings = adapters.models, adapters.settings
    problems: list[str] = []

    async def attempt(name: str, change: Callable[..., Awaitable[object]], *given: object) -> None:
        try:
            await change(*given)
        except ClientError as error:
            if not isinstance(error, AdapterRejected):  # those are counted where they are raised
                metrics.ADAPTER_LOADS.labels("rejected").inc()
            problems.append(f"{name}: {error}")

    async def bring(name: str, path: str) -> None:
        source = find_below(settings.adapter_root, path)
        if name not in models or models.get(name).source != source:
            await adapters.load(name, path)

    for name, path in desired.adapters.items():
        await attempt(f"adapter {name}", bring, name, path)
    for alias, wanted in desired.aliases.items():
        weights = {name: weight for name, weight in wanted.weights.items() if weight > 0}
        if models.aliases.get(alias) != weights:
            await attempt(f"alias {alias}", adapters.set_alias, alias, weights)
    for alias in set(models.aliases) - set(desired.aliases) - set(settings.aliases):
        await attempt(f"alias {alias}", adapters.remove_alias, alias)
    loaded = {model.name for model in models if model.version}
    for name in loaded - set(settings.adapters) - set(desired.adapters):
        await attempt(f"adapter {name}", adapters.unload, name)
    return problems
