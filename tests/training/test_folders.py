"""Result folders whatever interrupts their writing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.killed_folder import KILLED, MARK, found, write
from tests.support.models import ROOT
from training import folders
from training.errors import TrainingError
from training.folders import replaced_folder


def kill_at_each_step(folder: Path, swaps: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.killed_folder", str(folder), swaps]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("swaps", ["yes", "no"])
def test_a_kill_loses_neither_the_old_result_nor_the_new(swaps: str, tmp_path: Path) -> None:
    """kill -9 before each step in turn; the next run may fail, and has what was there before it."""
    steps = kill_at_each_step(tmp_path / "results", swaps)
    assert len(steps) > 4
    assert [step["code"] for step in steps] == [KILLED] * (len(steps) - 1) + [0]
    later = [step["later"] for step in steps]
    first_new = later.index("new")
    assert later == ["old"] * first_new + ["new"] * (len(steps) - first_new)
    assert first_new > 1
    assert all(step["left"] == ["out"] for step in steps)


def test_where_folders_can_swap_there_is_always_a_result(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    if not folders.exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system can't swap two names")
    steps = kill_at_each_step(tmp_path / "results", "yes")
    assert {step["at_once"] for step in steps} == {"old", "new"}


def old_result(folder: Path) -> Path:
    folder.mkdir()
    write(folder, "old")
    return folder


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_between_the_two_renames_finishes_them(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = old_result(tmp_path / "out")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        done = rename(self, target)
        if self == out:
            raise error
        return done

    monkeypatch.setattr(folders, "exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error), replaced_folder(out, MARK) as folder:
        write(folder, "new")
    assert found(out) == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_a_rename_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = old_result(tmp_path / "out")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name == ".out.partial":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "exchange", lambda *_: False)
        patch.setattr(Path, "rename", refused)
        with (
            pytest.raises(TrainingError, match=r"can't write .*: Permission denied"),
            replaced_folder(out, MARK) as folder,
        ):
            write(folder, "new")
    with pytest.raises(TrainingError, match="nothing to do"), replaced_folder(out, MARK):
        raise TrainingError("nothing to do")
    assert found(out) == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_an_error_inside_leaves_the_old_result(tmp_path: Path) -> None:
    out = old_result(tmp_path / "out")
    with (  # noqa: PT012
        pytest.raises(TrainingError, match=r"can't write .*/out: No such file"),
        replaced_folder(out, MARK) as folder,
    ):
        write(folder, "new")
        (folder / "absent").unlink()
    assert found(out) == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    """Again and again: nothing is left beside the link."""
    target = old_result(tmp_path / "large-disk")
    (tmp_path / "out").symlink_to(target)
    for text in ("new", "newer"):
        with replaced_folder(tmp_path / "out", MARK) as folder:
            write(folder, text)
        assert found(target) == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large-disk", "out"]
    assert (tmp_path / "out").is_symlink()
