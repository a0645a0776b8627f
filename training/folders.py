"""Result folders and files that appear whole or not at all, and files copied between folders."""

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app import files
from app.engine.weights import side_files
from training.errors import TrainingError

LOG_FILE = "trainer_log.jsonl"
"""The log that finetune writes while it runs and report draws."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextmanager
def replaced_folder(out: Path, mark: str) -> Iterator[Path]:
    """Yield a new folder beside `out`, which takes the place of `out` once the block ends well.

    An earlier result, that is a folder which holds the file `mark`, is replaced. An error inside
    the block leaves it as it was. Raises TrainingError where `out` holds anything else, which would
    be lost, and where it can't be written.

    Whenever the process is killed, `out` is the old result or the new one, and is whole. On Linux
    the two folders swap their names in one step, so there is no moment without a result and no
    reader has to look elsewhere. Some file systems (NFS) and systems can't do that; there the old
    result is moved aside first. If the process is killed just then, both results remain, hidden
    beside `out` as `.NAME.old` and `.NAME.partial`, and the next run finishes the move before it
    does anything else. Readers don't: they can't tell a killed writer from one that is at work.
    """
    place = out.resolve()  # of a link, the folder that it leads to
    partial, old = place.with_name(f".{place.name}.partial"), place.with_name(f".{place.name}.old")
    try:
        check_replaceable(out, mark)
        with only_writer(out):
            finish_move(place, partial, old)
            partial.mkdir(parents=True)
            try:
                yield partial
                move_into_place(place, partial, old)
            finally:
                finish_move(place, partial, old)
    except OSError as error:
        raise TrainingError(f"can't write {out}: {error.strerror or error}") from None


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Keep other commands from writing `out` until the block ends, however it does.

    A lock on a file beside `out` does this, which a killed process lets go. Raises TrainingError at
    once where another command writes there. Where the system or the file system has no such locks,
    commands aren't kept apart.
    """
    place = out.resolve()
    lock = place.with_name(f".{place.name}.lock")
    try:
        held = take(lock)
    except BlockingIOError:
        raise TrainingError(
            f"another command is writing {out}: wait for its end, or choose another folder"
        ) from None
    except OSError:  # whoever writes the folder will meet the reason
        held = None
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):
                lock.unlink()
            os.close(held)


def take(lock: Path) -> int:
    """The descriptor of the file `lock`, locked. Raises BlockingIOError where another process has
    it, and OSError."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.fstat(held), lock.stat()):
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)  # its last holder has removed it meanwhile


def check_replaceable(out: Path, mark: str) -> None:
    """Raise TrainingError unless `out` is absent, empty, or an earlier result."""
    if out.exists() and not (out.is_dir() and ((out / mark).is_file() or not any(out.iterdir()))):
        raise TrainingError(f"{out} holds something else (no {mark}): choose another folder")


def move_into_place(out: Path, partial: Path, old: Path) -> None:
    """Give the whole folder `partial` the name `out`. Raises OSError; then finish_move helps."""
    if not out.exists():
        partial.rename(out)
    elif not exchange(out, partial):
        out.rename(old)
        partial.rename(out)


def finish_move(out: Path, partial: Path, old: Path) -> None:
    """Finish a move that a kill or an error cut short, then remove what is left over.

    `old` without `out` means that the earlier result was moved aside, and that happens only once
    `partial` is whole.
    """
    if old.exists() and not out.exists():
        (partial if partial.exists() else old).rename(out)
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step. False: the system or file system can't do it."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0)


def read_json(file: Path) -> dict[str, Any]:
    """Like app.files.read_json; raises TrainingError where the file can't be read."""
    try:
        return files.read_json(file)
    except OSError as error:
        raise TrainingError(f"can't read {file}: {error.strerror}") from None
    except ValueError as error:
        raise TrainingError(str(error)) from None


def write_whole(file: Path, text: str) -> None:
    """Like app.files.write_whole; raises TrainingError where the file can't be written."""
    try:
        files.write_whole(file, text)
    except OSError as error:
        raise TrainingError(f"can't write {file}: {error.strerror}") from None


def copy_side_files(base: Path, folder: Path) -> None:
    """Copy a model's tokenizer, chat template and generation settings."""
    for file in side_files(base):
        shutil.copyfile(file, folder / file.name)
