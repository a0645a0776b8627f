"""Folders and files that are written whole or not at all, and what is copied between them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.scoring.profile import PROFILE_FILE
from training.errors import TrainingError

WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".gguf", ".pt", ".pth")
OWN_FILES = ("config.json", PROFILE_FILE, "run.json", "README.md")
LOG_FILE = "trainer_log.jsonl"
"""What finetune writes while it runs, and report draws."""


@contextmanager
def replaced_folder(out: Path, mark: str) -> Iterator[Path]:
    """A new folder beside `out` that takes its place once it is whole.

    Raises TrainingError where `out` is something else than an earlier result, which would be lost:
    an earlier result is a folder that holds the file `mark`.
    """
    if out.exists() and not (out.is_dir() and ((out / mark).is_file() or not any(out.iterdir()))):
        raise TrainingError(f"{out} holds something else (no {mark}): give another folder")
    partial = out.with_name(f".{out.name}.partial")
    old = out.with_name(f".{out.name}.old")
    try:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except OSError as error:
        raise TrainingError(f"can't write {out}: {error.strerror or error}") from None
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def write_whole(file: Path, text: str) -> None:
    """In place of what is there, once it is whole. Raises TrainingError where that can't be."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise TrainingError(f"can't write {file}: {error.strerror}") from None


def copy_side_files(base: Path, folder: Path) -> None:
    """Tokenizer, chat template, generation settings: all but weights and what describes them."""
    for file in base.iterdir():
        if file.is_file() and not file.name.endswith(WEIGHTS) and file.name not in OWN_FILES:
            shutil.copyfile(file, folder / file.name)
