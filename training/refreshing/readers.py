"""The new adapter meets readers: loaded, timed, tried on a share of them, promoted or taken back.

Whatever is done here may be done again after a kill: each change is made only where the service
does not have it yet.
"""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from app.scoring.profile import PROFILE_FILE
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.folders import replaced_folder
from training.progress import say
from training.refreshing.record import Check, Decision, Look
from training.refreshing.service import Service
from training.refreshing.steps import ADAPTER, PREPARED, Work

TIMED = 20
"""How many lists the two models are timed on."""


def load(work: Work, service: Service) -> None:
    """Put the adapter where the service reads adapters, and have it served; nobody gets it yet."""
    name, target = work.record.name, work.plan.adapters / work.record.name
    with replaced_folder(target, PROFILE_FILE) as folder:
        for file in work.place(ADAPTER).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    if name not in service.adapters():
        service.load(name)


def check_latency(work: Work, service: Service) -> Check | None:
    """None if it is not asked for."""
    bound = work.plan.gate.latency
    if bound is None:
        return None
    new, served = work.record.name, work.record.served
    asked = list(islice(bodies(work), TIMED))
    service.introduce(new, asked)
    taken = service.latencies((served, new), asked)
    ratio = taken[new] / taken[served]
    text = (
        f"/rank takes {taken[new] * 1000:.0f} ms, with the served model"
        f" {taken[served] * 1000:.0f} ms: {ratio:.2f} times as long; at most {bound:g}"
    )
    return Check(name="latency", passed=ratio <= bound, text=text)


def bodies(work: Work) -> Iterator[dict[str, Any]]:
    """Requests of /rank like the newest lists."""
    for one in PreparedData(work.place(PREPARED)).impressions("test"):
        history = [{"title": story.title} for story in one.reader.history[-20:]]
        candidates = [
            {"title": story.title, **({"category": story.category} if story.category else {})}
            for story in one.candidates
        ]
        yield {"history": history, "candidates": candidates}


def share(work: Work, service: Service) -> None:
    """Give the new model its share of the readers; `since` is written before anything changes."""
    record, part = work.record, work.plan.experiment.share
    if record.since is None:
        record.since = float(int(time.time()))
        record.write(work.folder)
    service.set_weights(work.plan.alias, {record.served: 1 - part, record.name: part})


def watch(work: Work, service: Service, wait: bool) -> tuple[Decision, str] | None:
    """Look until the interval leaves zero or time is up; None if it is too early and nobody waits.

    Raises TrainingError where somebody else has changed the alias.
    """
    record, terms = work.record, work.plan.experiment
    assert record.since is not None
    while True:
        found = look(work, service)
        interval = found.difference and found.difference["anytime"]
        if interval and (interval["low"] > 0 or interval["high"] < 0):
            better = interval["low"] > 0
            words = (
                f"click-through {'higher' if better else 'lower'} than {record.served}'s by"
                f" {abs(found.difference['value']):.4f}"  # type: ignore[index]
                f" [{interval['low']:+.4f}, {interval['high']:+.4f}]"
            )
            return ("promoted" if better else "taken back"), words
        if time.time() >= record.since + terms.hours * 3600:
            decision: Decision = "promoted" if terms.undecided == "promote" else "taken back"
            return decision, f"neither better nor worse for sure after {terms.hours:g} hours"
        if not wait:
            return None
        time.sleep(terms.poll_s)


def look(work: Work, service: Service) -> Look:
    """At the experiment, once; the record keeps the latest look."""
    record = work.record
    weights = service.weights(work.plan.alias)
    if set(weights) != {record.served, record.name}:
        raise TrainingError(
            f"alias {work.plan.alias} now has {', '.join(weights)}, which this refresh did not set:"
            " end the refresh with --abandon"
        )
    assert record.since is not None
    difference = service.difference(record.since, work.plan.alias, record.name, record.served)
    found = Look(time=time.time(), difference=difference)
    record.look = found
    record.write(work.folder)
    value = "too early to tell" if difference is None else f"difference {difference['value']:+.4f}"
    say(f"refresh {record.name}: {value}")
    return found


def promote(work: Work, service: Service) -> None:
    """All readers get the new model. The one before stays loaded, so that going back is a call."""
    record = work.record
    service.set_weights(work.plan.alias, {record.name: 1})
    for name in older(work, service):
        service.unload(name)


def older(work: Work, service: Service) -> list[str]:
    """Adapters of earlier refreshes that no alias names, but for the one just replaced."""
    named = {name for one in service.call("GET", "/aliases")["aliases"] for name in one["weights"]}
    kept = named | {work.record.name, work.record.served}
    ours = {folder.name for folder in work.folder.parent.iterdir()}
    return [name for name in service.adapters() if name in ours - kept]


def take_back(work: Work, service: Service) -> None:
    """All readers get the served model again, and the new one is unloaded."""
    record = work.record
    weights = service.weights(work.plan.alias)
    if weights.pop(record.name, None):
        left = weights if len(weights) > 1 else {next(iter(weights), record.served): 1.0}
        service.set_weights(work.plan.alias, left)
    if record.name in service.adapters():
        service.unload(record.name)
