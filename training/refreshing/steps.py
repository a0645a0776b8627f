"""The steps that make a new adapter and judge it: each is a command, or copies files."""

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from app.engine import lora
from app.likeness.tower import TOWER_FILE, read_tower
from app.ranker.ranker import DESCRIPTION_FILE, FIRST_STAGE_FILE, RANKER_FILE
from app.scoring.profile import PROFILE_FILE
from training.errors import TrainingError
from training.folders import replaced_folder
from training.progress import say
from training.refreshing.options import Plan, iso
from training.refreshing.record import Record, Step, read_all

RANKER_FILES = (DESCRIPTION_FILE, RANKER_FILE, FIRST_STAGE_FILE)
ADAPTER_FILES = (lora.CONFIG_FILE, lora.WEIGHTS_FILE, PROFILE_FILE)
COLLECTED, PREPARED, TUNED, ADAPTER = "collected", "prepared", "tuned", "adapter"
TEXT_SCORES, TOWER_SCORES, EVALUATION = "text.parquet", "tower.parquet", "evaluation"
NEW = "new"


Run = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One refresh. folder: its own, beside those of earlier ones. run: runs a command of
    `python -m training`, and raises TrainingError where it fails."""

    plan: Plan
    folder: Path
    record: Record
    run: Run

    def do(
        self, name: str, command: Sequence[object] = (), then: Callable[[], None] | None = None
    ) -> None:
        """Do a step unless the record says that it is done: a command, then perhaps a function."""
        if self.record.has_done(name):
            return
        words = [str(word) for word in command]
        say(f"refresh {self.record.name}: {name}")
        begun = time.perf_counter()
        if words:
            self.run(words)
        if then is not None:
            then()
        seconds = round(time.perf_counter() - begun, 1)
        self.record.steps.append(Step(name=name, command=words, seconds=seconds))
        self.record.write(self.folder)

    def place(self, name: str) -> Path:
        return self.folder / name

    @property
    def served(self) -> Path:
        return Path(self.record.served_folder)


def make(work: Work) -> None:
    """Everything until the new model is measured against the served one."""
    plan, record, place = work.plan, work.record, work.place
    start, fit, test, end = (iso(at) for at in (record.start, record.fit, record.test, record.end))
    shown = ["--from", start, "--until", end, "--window", plan.click_hours]
    work.do("collect", ["collect", *shown, "--out", place(COLLECTED)])
    times = ["--val-from", fit, "--test-from", test]
    prepare = ["--train", place(COLLECTED), *times, "--out", place(PREPARED), *plan.prepare]
    work.do("prepare", ["prepare", *prepare])
    make_adapter(work)
    limit = ["--limit", str(plan.fit_impressions)]
    on_data = ["--data", place(PREPARED)]
    on_base = ["--base", plan.base]
    work.do("calibrate", ["calibrate", place(ADAPTER), *on_data, *on_base, *limit])
    newest = ["--from", fit, "--limit", str(plan.fit_impressions + plan.test_impressions)]
    judged = ["--model", place(ADAPTER), *on_base, *newest, "--output", place(TEXT_SCORES)]
    work.do("score", ["score", *on_data, *judged])
    make_ranker(work, newest)
    named = [f"--model=served={work.served}", f"--model={NEW}={place(ADAPTER)}"]
    measured = ["--split", "test", "--limit", plan.test_impressions, *named, *on_base]
    quick = ["--speed-seconds", 0, "--text-pairs", 0, "--output", place(EVALUATION)]
    work.do("evaluate", ["evaluate", *on_data, *measured, *encoder(plan), *quick])


def make_adapter(work: Work) -> None:
    """The new language model: trained, or the served one; a folder without checkpoints."""
    plan, place = work.plan, work.place
    source = work.served
    is_adapter = (source / lora.CONFIG_FILE).is_file()
    if plan.finetune is None and not is_adapter:
        raise TrainingError(
            f"finetune: null keeps the served adapter, but {work.record.served} is none"
        )
    if plan.finetune is not None:
        # What it is worth is measured below, on newer lists.
        options = ["val_size=0", *plan.set, "calibration_impressions=0"]
        if plan.start == "served" and is_adapter:
            options.append(f"adapter_name_or_path={source}")
        places = ["--model", plan.base, "--data", place(PREPARED), "--output", place(TUNED)]
        sets = [word for option in options for word in ("--set", option)]
        work.do("finetune", ["finetune", plan.finetune, *places, *sets, "--resume"])
        source = place(TUNED)
    work.do("adapter", then=lambda: copy_adapter(source, work))


def copy_adapter(source: Path, work: Work) -> None:
    """With the served model's tower, if that is wanted and there is one."""
    with replaced_folder(work.place(ADAPTER), PROFILE_FILE) as folder:
        for name in ADAPTER_FILES:
            shutil.copy(source / name, folder)
        if has_tower(work):
            shutil.copy(work.served / TOWER_FILE, folder)


def has_tower(work: Work) -> bool:
    """Whether the served model's tower is taken."""
    return (
        work.plan.tower == "served"
        and work.plan.encoder is not None
        and (work.served / TOWER_FILE).is_file()
    )


def make_ranker(work: Work, newest: Sequence[str]) -> None:
    """Trees that learn from all lists, and what a model says only of those that it has not seen:
    the language model of the lists of fit_hours, and of those that earlier refreshes have scored;
    the tower also of all others, if it is older than these."""
    plan, place = work.plan, work.place
    on_data = ["--data", place(PREPARED), *encoder(plan)]
    texts, towers = [place(TEXT_SCORES)], []
    if plan.tower == "train" and plan.encoder is not None:
        work.do("tower", ["tower", *on_data, "--output", place(ADAPTER)])
    if (place(ADAPTER) / TOWER_FILE).is_file():
        unseen = unseen_by_tower(work) or newest
        towered = ["--tower", place(ADAPTER), *unseen, "--output", place(TOWER_SCORES)]
        work.do("score by tower", ["score", *on_data, *towered])
        towers = [place(TOWER_SCORES)]
    for folder in earlier(work):
        texts.append(folder / TEXT_SCORES)
        towers += [folder / TOWER_SCORES] if towers and (folder / TOWER_SCORES).is_file() else []
    scores = [("--text", file) for file in texts] + [("--tower", file) for file in towers]
    words = [word for pair in scores for word in pair]
    until = ["--test-from", iso(work.record.test), "--output", place(ADAPTER)]
    work.do("rank", ["rank", *on_data, *words, *until])


def unseen_by_tower(work: Work) -> list[str] | None:
    """Which lists a tower that is kept may score, as arguments of `score`; None if it is not known
    what it has learned from."""
    tower = read_tower(work.place(ADAPTER)) if has_tower(work) else None
    if tower is None or not tower.learned_until:
        return None
    return ["--from", max(iso(work.record.start), iso_after(tower.learned_until))]


def iso_after(time: str) -> str:
    """The second after a time in ISO 8601."""
    moment = datetime.fromisoformat(time).replace(microsecond=0) + timedelta(seconds=1)
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


def earlier(work: Work) -> Iterator[Path]:
    """Folders of earlier refreshes that scored lists of this one's traffic."""
    for folder, record in read_all(work.folder.parent).items():
        is_over = record.decision is not None and record.end <= work.record.fit
        if is_over and record.fit >= work.record.start and (folder / TEXT_SCORES).is_file():
            yield folder


def encoder(plan: Plan) -> list[str]:
    return [] if plan.encoder is None else ["--encoder", str(plan.encoder)]


def as_typed(step: Step) -> str:
    """The command as a person would type it."""
    return shlex.join(["python", "-m", "training", *step.command]) if step.command else ""
