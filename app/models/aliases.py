"""Aliases: names that stand for one model, or split readers between several."""

from collections.abc import Mapping

from app.errors import Conflict, InvalidValue, ModelNotFound, StartupError
from app.models.adapter_folder import check_name
from app.models.kept import KeptFile
from app.models.registry import ModelRegistry
from app.settings import Settings


class Aliases:
    """Operators' changes to aliases while the service runs, one at a time."""

    def __init__(self, settings: Settings, models: ModelRegistry, kept: KeptFile) -> None:
        self.settings = settings
        self.models = models
        self._kept = kept

    def start(self) -> None:
        """Take over the kept aliases, which take precedence over those in the settings. The models
        must be there already. Raises StartupError for an alias that could answer nothing."""
        self.models.aliases |= self._kept.content.aliases
        for alias, weights in self.models.aliases.items():
            if alias in self.models:
                raise StartupError(f"alias {alias!r} has a model's name")
            if not any(name in self.models for name in weights):
                raise StartupError(f"alias {alias!r}: none of {', '.join(weights)} is served")

    async def set(self, alias: str, weights: Mapping[str, float]) -> None:
        """Create or change an alias, effective from the next request.

        Raises ModelNotFound, Conflict or InvalidValue.
        """
        check_name(alias, "alias")
        async with self._kept.changing:
            if alias in self.models or alias in self._kept.content.adapters:
                raise Conflict(f"{alias} is a model's name", "alias")
            for name in weights:
                self.models.get(name, f"weights.{name}")
            used = {name: weight for name, weight in weights.items() if weight > 0}
            if not used:
                raise InvalidValue("weights: at least one must be above 0", "weights")
            self._replace({**self.models.aliases, alias: used})

    async def remove(self, alias: str) -> None:
        """Remove an alias. Raises ModelNotFound, or Conflict if the settings use it."""
        async with self._kept.changing:
            if alias not in self.models.aliases:
                raise ModelNotFound(f"no alias {alias!r}", "alias")
            if alias == self.models.default or alias in self.settings.aliases:
                raise Conflict(f"{alias} is set by the service's settings: change those", "alias")
            aliases = self.models.aliases
            self._replace({name: aliases[name] for name in aliases if name != alias})

    def _replace(self, aliases: Mapping[str, Mapping[str, float]]) -> None:
        self._kept.keep(self._kept.content.with_aliases(aliases))
        self.models.aliases = {alias: dict(weights) for alias, weights in aliases.items()}
