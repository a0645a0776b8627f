"""What `pip install .` installs serves without the repository beside it."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import pytest

from loadtests.services import free_port
from tests.support.servers import ENVIRONMENT, Service, stopped_at_end
from tests.support.shared_services import TinyModels
from tests.support.waiting import HANG_S
from tests.support.wheels import build, pip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the wheel, and the packages of this environment in place of what the wheel needs."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pip(
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        str(build(tmp_path_factory.mktemp("source"))),
    )
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_installed_command_serves_and_ends(
    environment: Path, tiny_models: TinyModels, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    options = {"port": str(port), "model": str(tiny_models.base), "state": str(tmp_path / "state")}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [environment / "bin" / "frontpage", "serve", *arguments(options)],
            cwd=tmp_path,
            env={**os.environ, **ENVIRONMENT},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    with stopped_at_end(Service(f"http://127.0.0.1:{port}", process, log)) as service:
        service.wait_until_ready()
        body = {"history": ["Cup final"], "target": "Coach fired"}
        answer = httpx.post(f"{service.url}/predict", json=body, timeout=HANG_S).raise_for_status()
        assert 0 <= answer.json()["probability"] <= 1
        for file in ("/", "/page/style.css", "/page/try.js", "/page/icon.svg"):
            assert httpx.get(f"{service.url}{file}", timeout=HANG_S).status_code == 200, file
    assert process.returncode == 0, log.read_text()


def arguments(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]
