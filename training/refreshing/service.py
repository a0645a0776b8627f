"""The running service, as a refresh asks and changes it."""

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from training.errors import TrainingError

TIMEOUT_S = 300.0
"""An adapter is copied, checked and tried before the call that loads it answers."""
DEFAULT = "default"
"""The alias of requests that name no model."""
Json = dict[str, Any]


class Service:
    """Raises TrainingError wherever the service does not answer well."""

    def __init__(self, url: str) -> None:
        key = os.environ.get("OPENAI_API_KEY")
        self.url = url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT_S,
            transport=httpx.HTTPTransport(retries=3),
        )

    def __enter__(self) -> "Service":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: Json | None = None, **params: str) -> Json:
        try:
            answer = self._client.request(method, path, json=body, params=params)
        except httpx.HTTPError as error:
            raise TrainingError(f"{self.url}: {error or type(error).__name__}") from error
        if answer.is_error:
            text = answer.text
            with suppress(ValueError, KeyError, TypeError):
                text = answer.json()["error"]["message"]
            raise TrainingError(f"{self.url}{path} answers {answer.status_code}: {text[:500]}")
        found: Json = answer.json()
        return found

    def weights(self, alias: str) -> dict[str, float]:
        """The alias's models, those with a share. Where nobody has set the alias `default`, one
        model answers for it."""
        for one in self.call("GET", "/aliases")["aliases"]:
            if one["alias"] == alias:
                return {name: share for name, share in one["weights"].items() if share > 0}
        if alias == DEFAULT:
            return {self.call("POST", "/rank", {"candidates": ["?"]})["model"]: 1.0}
        raise TrainingError(f"alias: {self.url} has no alias {alias!r}")

    def set_weights(self, alias: str, weights: dict[str, float]) -> None:
        self.call("PUT", f"/aliases/{alias}", {"weights": weights})

    def adapters(self) -> dict[str, str]:
        """The folders of the adapters that are served, as the service sees them, by name."""
        found = self.call("GET", "/adapters")["adapters"]
        return {one["name"]: one["source"] for one in found if one["status"] == "serving"}

    def load(self, name: str) -> None:
        self.call("POST", "/adapters", {"name": name, "path": name})

    def unload(self, name: str) -> None:
        self.call("DELETE", f"/adapters/{name}")

    def difference(self, since: float, alias: str, one: str, other: str) -> Json | None:
        """In click-through, as /experiments has it: one's minus other's. None: too early."""
        moment = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(since))}"
        for found in self.call("GET", "/experiments", since=moment)["differences"]:
            if found["alias"] == alias and {found["model"], found["other"]} == {one, other}:
                difference: Json | None = found["click_through"]
                return difference if found["model"] == one else turned(difference)
        return None

    def introduce(self, model: str, bodies: Sequence[Json]) -> None:
        """Have all titles embedded, as a site's stories are before they are ranked."""
        for body in bodies:
            stories = [*body["history"], *body["candidates"]]
            self.call("POST", "/rank", {"candidates": stories, "model": model, "shortlist": 1})

    def latencies(self, models: Sequence[str], bodies: Sequence[Json]) -> dict[str, float]:
        """The median seconds that /rank takes with each model, asked in turns, after one round to
        warm up."""
        taken: dict[str, list[float]] = {model: [] for model in models}
        for number, body in enumerate([bodies[0], *bodies]):
            for model in models:
                begun = time.perf_counter()
                self.call("POST", "/rank", {**body, "model": model, "degraded": "refuse"})
                if number:
                    taken[model].append(time.perf_counter() - begun)
        return {model: statistics.median(seconds) for model, seconds in taken.items()}


def turned(difference: Json | None) -> Json | None:
    """Of the other model from this one."""
    if difference is None:
        return None
    found: Json = {"value": -difference["value"]}
    for name in ("fixed", "anytime"):
        one = difference[name]
        found[name] = one and {"low": -one["high"], "high": -one["low"]}
    return found


def find_served(
    service: Service, plan_served: Path | None, base: Path, adapters: Path, alias: str
) -> tuple[str, Path]:
    """The name and the folder of the alias's model. Raises TrainingError where several share it, or
    its folder can't be found."""
    weights = service.weights(alias)
    if len(weights) != 1:
        raise TrainingError(
            f"alias {alias} is shared by {', '.join(weights)}: end that experiment first"
        )
    (name,) = weights
    folder = plan_served or find_folder(service.adapters().get(name), name, base, adapters)
    if folder is None or not folder.is_dir():
        raise TrainingError(
            f"the folder of {name}, which {alias} serves, is not here: set `served`"
        )
    return name, folder


def find_folder(source: str | None, name: str, base: Path, adapters: Path) -> Path | None:
    """source: the adapter's folder as the service sees it; None for a base or merged model."""
    if source is None:
        return base if base.resolve().name == name else None
    places = (Path(source), adapters / Path(source).name)
    return next((place for place in places if place.is_dir()), None)
