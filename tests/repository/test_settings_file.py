"""docs/operations/settings.env holds every setting, and its defaults are the service's."""

import re
import subprocess
from pathlib import Path

import pytest

from app.settings import Limits, Settings
from tools.settings_file import DOCUMENT, document

LINE = re.compile(r"^#(FRONTPAGE_\w+)=(.*)$", re.M)


def test_the_file_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `make openapi`"


def test_it_has_every_setting_once_and_sets_none() -> None:
    names = [*Settings.model_fields, *(f"limits__{name}" for name in Limits.model_fields)]
    found = [name for name, _ in LINE.findall(document())]
    assert found == [f"FRONTPAGE_{name.upper()}" for name in names if name != "limits"]
    assert all(line.startswith("#") or not line for line in document().splitlines())


def test_its_values_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell reads them, and line by line as Docker does."""
    file = tmp_path / "frontpage.env"
    file.write_text(re.sub(r"^#(?=FRONTPAGE_\w+=.)", "", document(), flags=re.M))
    command = ["bash", "-c", 'set -a; . "$0"; env -0', str(file)]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    shell = dict(one.split("=", 1) for one in done.stdout.decode().split("\0") if one)
    docker = {name: value for name, value in LINE.findall(document()) if value}
    assert {name: shell.get(name) for name in docker} == docker
    assert len(docker) > 30
    default = Settings()
    for name, value in docker.items():
        monkeypatch.setenv(name, value)
    assert Settings() == default


def test_a_setting_is_described_above_its_line() -> None:
    for entry in (
        "\n\n# Port to listen on. (integer ≥ 0, ≤ 65535)\n#FRONTPAGE_PORT=8000\n\n",
        "# The least severe messages that are logged. (debug, info, warning, error)\n"
        "#FRONTPAGE_LOG_LEVEL=info\n\n",
        "\n\n# The model's name in the API. Default: the folder's name. (string)\n"
        "#FRONTPAGE_MODEL_NAME=\n\n",
        "\n\n# In a /predict/batch. (integer > 0, ≤ 1000)\n#FRONTPAGE_LIMITS__MAX_PAIRS=1000\n\n",
    ):
        assert entry in document()
