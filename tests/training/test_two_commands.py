"""Two commands that write one folder at the same time: the second says so and changes nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lora_adapters import make_adapter
from tests.support.models import MIND, ROOT
from tests.support.tiny_training import arguments
from training.__main__ import main
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.folders import only_writer


def test_a_second_prepare_leaves_the_first_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first waits for its news, which come through a pipe."""
    source, out = tmp_path / "mind", tmp_path / "out"
    source.mkdir()
    shutil.copy(MIND / "train" / "behaviors.tsv", source)
    os.mkfifo(source / "news.tsv")
    command = [sys.executable, "-m", "training", "prepare", "--train", str(source)]
    first = subprocess.Popen([*command, "--out", str(out)], cwd=ROOT, stdout=subprocess.DEVNULL)
    with (source / "news.tsv").open("wb") as news:  # waits for the reader
        before = sorted(path.name for path in tmp_path.iterdir())
        assert main(["prepare", "--train", str(MIND / "train"), "--out", str(out)]) == 1
        assert f"another command is writing {out}" in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        news.write((MIND / "train" / "news.tsv").read_bytes())
    assert first.wait(60) == 0
    assert PreparedData(out).count("train") > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mind", "out"]


@pytest.mark.parametrize("command", ["finetune", "calibrate", "merge", "evaluate", "download"])
def test_every_command_that_writes_a_folder(
    command: str,
    tiny: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adapter, out = make_adapter(tiny, tmp_path / "adapter"), tmp_path / "out"
    given = {
        "finetune": arguments(tiny, prepared, out),
        "calibrate": ["calibrate", str(adapter), "--data", str(prepared), "--base", str(tiny)],
        "merge": ["merge", "--base", str(tiny), "--adapter", str(adapter), "--output", str(out)],
        "evaluate": ["evaluate", "--data", str(prepared), "--model", f"a={tiny}"],
        "download": ["download", "--output", str(out)],
    }[command]
    given += ["--output", str(out)] if command == "evaluate" else []
    busy = adapter if command == "calibrate" else out
    with only_writer(busy):
        assert main(given) == 1
    assert f"another command is writing {busy}" in capsys.readouterr().err
    assert not (adapter / "profile.json").exists()
    assert not out.exists() or not list(out.iterdir())


def test_a_killed_command_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    child = os.fork()
    if child == 0:
        with only_writer(out):
            os._exit(9)
    os.waitpid(child, 0)
    assert (tmp_path / ".out.lock").exists()
    with only_writer(out), pytest.raises(TrainingError), only_writer(tmp_path / "." / "out"):
        pass
    with only_writer(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_where_no_lock_can_be_had_commands_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with only_writer(tmp_path / "file" / "out"):
        pass
