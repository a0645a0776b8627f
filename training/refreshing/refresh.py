"""A refresh from its first step to its decision, or on from where a kill has left it."""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from training.errors import TrainingError
from training.evaluation.record import Evaluation
from training.folders import only_writer
from training.progress import say
from training.refreshing import gate, readers, steps
from training.refreshing.options import Plan, RefreshOptions, iso, read_plan, windows
from training.refreshing.record import Decision, Record, read_all
from training.refreshing.service import Service, find_served
from training.refreshing.steps import Run, Work

KEPT = (steps.ADAPTER, steps.EVALUATION)
"""Folders that stay after the decision; the others hold readers' traffic."""


def refresh(options: RefreshOptions, run: Run) -> Record | None:
    """Run again, it goes on where it ended. Returns None where it is too early for another one.

    run: see Work. Raises TrainingError."""
    plan = read_plan(options.config)
    options.out.mkdir(parents=True, exist_ok=True)
    with only_writer(options.out), Service(plan.url) as service:
        work = unfinished(options, plan, run)
        if options.abandon:
            return abandon(work, service, options.out)
        if work is None and is_early(options, plan):
            return None
        if work is None:
            work = begin(options, plan, service, run)
        return go_on(work, service, options)


def unfinished(options: RefreshOptions, plan: Plan, run: Run) -> Work | None:
    """The latest refresh, if it is not decided yet, with the plan that it began with."""
    folder, record = next(reversed(read_all(options.out).items()), (None, None))
    if folder is None or record is None:
        return None
    if record.decision == "passed the gate" and options.until is None:
        record.decision = record.decided = None
    if record.decided is not None:
        return None
    begun = Plan.model_validate(record.plan)
    say(f"refresh {record.name} goes on")
    if changed := [
        name for name in Plan.model_fields if getattr(begun, name) != getattr(plan, name)
    ]:
        say(f"as it began; changed in {options.config} since: {', '.join(changed)}")
    return Work(begun, folder, record, run)


def is_early(options: RefreshOptions, plan: Plan) -> bool:
    """Whether the last refresh has seen nearly all there is."""
    end = windows(plan, time.time() if options.at is None else options.at).end
    return any(end < one.end + plan.every_hours * 3600 for one in read_all(options.out).values())


def begin(options: RefreshOptions, plan: Plan, service: Service, run: Run) -> Work:
    """Raises TrainingError, before anything is written, for what can't go well."""
    found = windows(plan, time.time() if options.at is None else options.at)
    if not os.environ.get("FRONTPAGE_STORE"):
        raise TrainingError("set FRONTPAGE_STORE to the URL of the service's database")
    for name in ("base", "encoder", "finetune"):
        place = getattr(plan, name)
        if place is not None and not place.exists():
            raise TrainingError(f"{options.config}: {name}: there is no {place}")
    served, folder = find_served(service, plan.served, plan.base, plan.adapters, plan.alias)
    name = f"{plan.name}-{datetime.fromtimestamp(found.end, UTC):%Y%m%d-%H%M%S}"
    own = options.out / name
    if own.exists() or (plan.adapters / name).exists():
        raise TrainingError(f"{name} exists already: nothing is newer than its traffic")
    record = Record(
        name=name,
        plan=plan.model_dump(mode="json"),
        served=served,
        served_folder=str(folder.resolve()),
        start=found.start,
        fit=found.fit,
        test=found.test,
        end=found.end,
    )
    own.mkdir()
    record.write(own)
    return Work(plan, own, record, run)


def go_on(work: Work, service: Service, options: RefreshOptions) -> Record:
    record = work.record
    if record.decision is not None:  # and was killed before it was carried out
        return end(work, service, record.decision, record.why)
    steps.make(work)
    work.do("gate", then=lambda: pass_gate(work))
    if has_failed(record):
        return end(work, service, "stopped at the gate", words(record))
    if options.until == "gate":
        return end(work, service, "passed the gate", words(record))
    work.do("load", then=lambda: readers.load(work, service))
    work.do("latency", then=lambda: time_it(work, service))
    if has_failed(record):
        return end(work, service, "stopped at the gate", words(record))
    if work.plan.experiment.share == 1:
        return end(work, service, "promoted", words(record))
    work.do("share", then=lambda: readers.share(work, service))
    found = readers.watch(work, service, options.wait)
    return record if found is None else end(work, service, *found)


def has_failed(record: Record) -> bool:
    return not all(check.passed for check in record.checks)


def pass_gate(work: Work) -> None:
    evaluation = Evaluation.read(work.place(steps.EVALUATION))
    traffic = gate.read_traffic(work.place(steps.PREPARED), iso(work.record.fit))
    work.record.checks = gate.judge(work.plan.gate, evaluation, traffic)


def time_it(work: Work, service: Service) -> None:
    found = readers.check_latency(work, service)
    work.record.checks += [found] if found else []


def end(work: Work, service: Service, decision: Decision, why: str) -> Record:
    """Write what is decided, carry it out, and write that it is."""
    record = work.record
    record.decision, record.why = decision, why
    record.write(work.folder)
    if decision == "promoted":
        readers.promote(work, service)
    elif decision != "passed the gate" and record.has_done("gate"):
        readers.take_back(work, service)
        shutil.rmtree(work.plan.adapters / record.name, ignore_errors=True)
    if decision != "passed the gate":
        for place in work.folder.iterdir():
            if place.is_dir() and place.name not in KEPT:
                shutil.rmtree(place)
    record.decided = time.time()
    record.write(work.folder)
    return record


def abandon(work: Work | None, service: Service, out: Path) -> Record:
    if work is None:
        raise TrainingError(f"{out} holds no unfinished refresh")
    return end(work, service, "abandoned", "by --abandon")


def words(record: Record) -> str:
    """The checks that have failed, or all if none has."""
    failed = [check.text for check in record.checks if not check.passed]
    return "; ".join(failed or [check.text for check in record.checks])
