"""Files that were cut, damaged or could not be written whole are one line, and not a traceback."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import AdapterRejected
from app.models.adapter_folder import check_adapter
from app.settings import Settings
from tests.support.lora_adapters import make_adapter
from tests.support.tiny_training import arguments
from training.__main__ import main


@pytest.fixture
def adapter(tiny: Path, tmp_path: Path) -> Path:
    return make_adapter(tiny, tmp_path / "adapter")


def line_of(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    """The one line that a failing command prints."""
    capsys.readouterr()
    assert main(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in lines
    return lines[-1]


BROKEN = ["", "{", "[1]", "\0\0", '"text"']


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_run_record(
    text: str, tiny: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At merge and, in the service, at load and at start."""
    (adapter / "run.json").write_text(text)
    paths = ["--base", str(tiny), "--adapter", str(adapter), "--output", str(tmp_path / "out")]
    assert "run.json" in line_of(capsys, ["merge", *paths])
    with pytest.raises(AdapterRejected, match=r"run\.json"):
        check_adapter(adapter, Settings(model=tiny))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "index"])
def test_a_broken_base(
    name: str, tiny: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    name = "model.safetensors.index.json" if name == "index" else name
    (base / name).write_text('{"weight_map": 3')
    paths = ["--base", str(base), "--adapter", str(adapter), "--output", str(tmp_path / "out")]
    assert name in line_of(capsys, ["merge", *paths])
    with pytest.raises(AdapterRejected, match=name):
        check_adapter(adapter, Settings(model=base))


@pytest.mark.parametrize("file", ["adapter_config.json", "bottleneck.json"])
def test_a_broken_adapter(
    file: str, tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).write_text('{"size": ')
    command = ["calibrate", str(tmp_path), "--data", str(prepared), "--base", str(tiny)]
    assert f"{file} is not JSON" in line_of(capsys, command)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: the same error of the system as a full disk's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [1000, 300_000])
def test_a_disk_that_fills_up_during_a_merge(
    size: int, tiny: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    paths = ["--base", str(tiny), "--adapter", str(adapter), "--output", str(output)]
    with room_for(size):
        line = line_of(capsys, ["merge", *paths])
    assert f"can't write {output}" in line
    assert "File too large" in line
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer": {"report_to": "clearml"}}, "options: ClearMLCallback requires"),
        ({"trainer": {"report_to": ["none", "mlflo"]}}, "mlflo"),
        ({"trainer": {"weight_decay": "a little"}}, "trainer.weight_decay: 'a little' is not a"),
        ({"val_size": 0.001}, "0.001 of the 18 impressions of split 'val' is not even one"),
    ],
)
def test_options_that_cant_be_used(
    options: dict[str, Any],
    message: str,
    tiny: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in line_of(capsys, arguments(tiny, prepared, tmp_path / "out", **options))
