"""The folder of a training run, whatever interrupts it."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from training.errors import TrainingError
from training.tuning.run_folder import START_FILE, begin, check_output, open_output

CHECKPOINT = "checkpoint-5"


def earlier_run(output: Path) -> Path:
    (output / CHECKPOINT).mkdir(parents=True)
    (output / CHECKPOINT / "trainer_state.json").write_text("{}")
    for name in ("adapter_model.safetensors", "run.json", "profile.json"):
        (output / name).write_text("{}")
    (output / START_FILE).write_text('{"seed": 1}')
    return output


@pytest.mark.parametrize("steps", range(5))
def test_a_run_killed_while_it_clears_the_folder_can_be_started_again(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was removed until then, the folder is still known as a run's."""
    output = earlier_run(tmp_path / "run")
    remove_file, remove_folder, listed = Path.unlink, shutil.rmtree, Path.iterdir
    removed: list[str] = []

    class Killed(BaseException):
        pass

    def count(path: Path) -> None:
        if len(removed) == steps:
            raise Killed
        removed.append(path.name)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        count(self)
        remove_file(self, missing_ok)

    def rmtree(path: Path) -> None:
        count(path)
        remove_folder(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        patch.setattr(shutil, "rmtree", rmtree)
        patch.setattr(Path, "iterdir", lambda self: iter(sorted(listed(self))))
        with suppress(Killed):
            begin(output, {"seed": 2}, None)
    check_output(output)  # raises where the folder seems to be something else
    begin(output, {"seed": 2}, None)
    assert [path.name for path in output.iterdir()] == [START_FILE]
    assert json.loads((output / START_FILE).read_text()) == {"seed": 2}


def test_a_run_from_before_an_option_counts_with_its_default(tmp_path: Path) -> None:
    output = earlier_run(tmp_path / "run")
    started = {"seed": 1, "long_titles": "cut"}
    assert open_output(output, started, tmp_path, resume=True) == output / CHECKPOINT
    with pytest.raises(TrainingError, match="was started with long_titles cut, not skip"):
        open_output(output, started | {"long_titles": "skip"}, tmp_path, resume=True)


def test_a_resumed_run_keeps_what_is_there(tmp_path: Path) -> None:
    output = earlier_run(tmp_path / "run")
    before = sorted(path.name for path in output.iterdir())
    checkpoint = open_output(output, {"seed": 1}, tmp_path, resume=True)
    assert checkpoint == output / CHECKPOINT
    begin(output, {"seed": 1}, checkpoint)
    assert sorted(path.name for path in output.iterdir()) == before
