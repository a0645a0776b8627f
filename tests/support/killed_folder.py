"""python -m tests.support.killed_folder FOLDER yes|no: replace a result, killed at each step.

For each step on the file system in turn, a forked process replaces an earlier result and is killed
just before that step. Prints a JSON line for each: what a reader finds then, and what is found once
another run has begun and failed. yes: two folders can swap their names in one step.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training import folders
from training.errors import TrainingError

MARK = "mark"
STEPS = ("mkdir", "rename", "unlink", "rmdir")
KILLED = 9


def write(folder: Path, text: str) -> None:
    """A result of two files, of which one must not be found without the other."""
    for name in (MARK, "other"):
        (folder / name).write_text(text)


def found(folder: Path) -> str:
    """The text of both files; what is wrong where there is no whole result."""
    if not folder.exists():
        return "nothing"
    texts = {file.read_text() for file in folder.iterdir()}
    return texts.pop() if len(texts) == 1 and len(list(folder.iterdir())) == 2 else "a part"


def kill_before(number: int, step: Callable[..., Any], seen: list[str]) -> Callable[..., Any]:
    def run(*args: Any, **options: Any) -> Any:
        seen.append(step.__name__)
        if len(seen) == number:
            os._exit(KILLED)
        return step(*args, **options)

    return run


def replace_and_die(out: Path, number: int) -> None:
    """Killed before step `number`; with 0 for exit code if there are not so many steps."""
    seen: list[str] = []
    for name in STEPS:
        setattr(os, name, kill_before(number, getattr(os, name), seen))
    if hasattr(folders, "exchange"):
        folders.exchange = kill_before(number, folders.exchange, seen)
    with folders.replaced_folder(out, MARK) as folder:
        write(folder, "new")
    os._exit(0)


def begin_and_fail(out: Path) -> None:
    """The next run, which finds nothing to do."""
    try:
        with folders.replaced_folder(out, MARK):
            raise TrainingError("none of the impressions can be used")
    except TrainingError:
        pass


def main(folder: Path, swaps: bool) -> None:
    if not swaps:
        folders.exchange = lambda *_: False
    code, number = KILLED, 0
    while code == KILLED:
        number += 1
        shutil.rmtree(folder, ignore_errors=True)
        out = folder / "out"
        out.mkdir(parents=True)
        write(out, "old")
        child = os.fork()
        if child == 0:
            replace_and_die(out, number)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        at_once = found(out)
        begin_and_fail(out)
        left = sorted(path.name for path in folder.iterdir())
        print(json.dumps({"code": code, "at_once": at_once, "later": found(out), "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "yes")
