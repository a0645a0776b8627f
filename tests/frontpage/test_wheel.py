"""What `pip install .` installs is complete: it serves without the repository beside it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from app import __version__
from loadtests.services import free_port
from tests.support.models import ROOT
from tests.support.servers import ENVIRONMENT, Service, stopped_at_end
from tests.support.shared_services import TinyModels
from tests.support.waiting import HANG_S

PACKAGES = ("app", "frontpage", "training")


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves files in the folder in which it builds."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder))
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Has the wheel, and the packages of this environment in place of what the wheel needs."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pip("--python", python, "install", "--no-deps", "--no-index", str(wheel))
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    files = {
        str(file.relative_to(ROOT))
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert files <= inside
    assert {name.split("/")[0] for name in inside - files} == {f"frontpage-{__version__}.dist-info"}


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
