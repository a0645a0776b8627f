"""Aliases: names that stand for one model, or split readers between several."""

from collections.abc import Mapping

from app.errors import Conflict, InvalidValue, ModelNotFound, StartupError
from app.models.adapter_folder import check_name
from app.models.desired import Desired
from app.models.kept import KeptModels, Weights
from app.models.registry import ModelRegistry, model_of
from app.settings import Settings


class Aliases:
    """Operators' changes to aliases, and what this instance makes of everybody's."""

    def __init__(self, settings: Settings, models: ModelRegistry, desired: Desired) -> None:
        self.settings = settings
        self.models = models
        self._desired = desired
        desired.watch(self.apply)

    def start(self) -> None:
        """Take over the desired aliases, which take precedence over those in the settings. The
        models must be there already. Raises StartupError for an alias that could answer nothing."""
        self.models.aliases = {name: dict(shares) for name, shares in self._wanted().items()}
        for alias, weights in self.models.aliases.items():
            if alias in self.models:
                raise StartupError(f"alias {alias!r} has a model's name")
            if not any(name in self.models for name in weights):
                raise StartupError(f"alias {alias!r}: none of {', '.join(weights)} is served")

    def apply(self) -> None:
        """Make the aliases what they should be, effective from the next request.

        One that names a model that is not served here, or not yet, stays as it is as long as that
        answers anything. One that could answer nothing is left out, so that requests without a
        model are still answered if it is `default`.
        """
        found = {}
        for alias, weights in self._wanted().items():
            now = self.models.aliases.get(alias, {})
            waits = any(name not in self.models for name in weights)
            if waits and any(name in self.models for name in now):
                weights = now
            answers = any(name in self.models for name in weights)
            if answers and alias not in self.models:
                found[alias] = dict(weights)
        self.models.aliases = found

    def held(self) -> set[str]:
        """The models of aliases that could not be made what they should be yet."""
        wanted = self._wanted()
        return {
            model_of(name)
            for alias, weights in self.models.aliases.items()
            if weights != wanted.get(alias)
            for name in weights
        }

    async def set(self, alias: str, weights: Weights) -> dict[str, float]:
        """Create or change an alias for all instances, here from the next request on; returns the
        weights above 0.

        Raises ModelNotFound, Conflict, InvalidValue or StoreUnavailable.
        """
        check_name(alias, "alias")
        for name in weights:
            self.models.get(name, f"weights.{name}")
        used = {name: weight for name, weight in weights.items() if weight > 0}

        def edit(content: KeptModels) -> KeptModels:
            check_alias(self.settings, content, alias, weights)
            return content.with_alias(alias, used)

        await self._desired.change(edit)
        return used

    async def remove(self, alias: str) -> None:
        """Remove an alias. Raises ModelNotFound, StoreUnavailable, or Conflict if the settings use
        it."""

        def edit(content: KeptModels) -> KeptModels:
            check_removable(self.settings, content, alias)
            return content.without_alias(alias)

        await self._desired.change(edit)

    def _wanted(self) -> Mapping[str, Weights]:
        return {**self.settings.aliases, **self._desired.content.aliases}


def check_alias(settings: Settings, content: KeptModels, alias: str, weights: Weights) -> None:
    """Raises Conflict, ModelNotFound or InvalidValue if `content` can't have this alias."""
    models = {settings.base_name, *settings.adapters, *content.adapters}
    if alias in models:
        raise Conflict(f"{alias} is a model's name", "alias")
    for name in weights:
        if model_of(name) not in models:
            known = ", ".join(sorted(models))
            raise ModelNotFound(f"no model {name!r}; there are {known}", f"weights.{name}")
    if not any(weight > 0 for weight in weights.values()):
        raise InvalidValue("weights: at least one must be above 0", "weights")


def check_removable(settings: Settings, content: KeptModels, alias: str) -> None:
    """Raises ModelNotFound, or Conflict if the settings use the alias."""
    if alias not in {**settings.aliases, **content.aliases}:
        raise ModelNotFound(f"no alias {alias!r}", "alias")
    if alias in (settings.default_model, *settings.aliases):
        raise Conflict(f"{alias} is set by the service's settings: change those", "alias")
