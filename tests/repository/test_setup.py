"""The scripts in requirements/ that set everything up, and which command runs which of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models import ROOT

REQUIREMENTS = ROOT / "requirements"
SYSTEM = "requirements/system.sh tests"
NEEDED = ("bash", "dirname", "env", "grep", "mktemp", "rm", "sed", "tail", "tee")


def part(*command: str) -> subprocess.CompletedProcess[str]:
    command = (str(REQUIREMENTS / "part.sh"), "cooking", *command)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_part_says_that_it_begins_and_what_it_took() -> None:
    done = part("echo", "a line of pip's")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"==> cooking\n    done in \d+ s\n", done.stdout)


def test_a_part_that_fails_shows_what_it_said() -> None:
    done = part("bash", "-c", "echo why; exit 3")
    assert done.returncode == 3
    assert re.fullmatch(r"why\n==> failed after \d+ s: cooking\n", done.stderr)


def test_a_part_that_lasts_says_so(tmp_path: Path) -> None:
    """It lasts until it has."""
    output = tmp_path / "output"
    wait = 'until grep -q still "$0"; do sleep 0.1; done'
    with output.open("wb") as stream:
        command = [f"{REQUIREMENTS}/part.sh", "cooking", "bash", "-c", wait, str(output)]
        subprocess.run(command, stdout=stream, check=True)
    assert "    still cooking (8 s)\n" in output.read_text(encoding="utf-8")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The scripts without an environment, and a PATH of a system that lacks most of what is needed.
    Its user may not install anything."""
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found, name
        (programs / name).symlink_to(found)
    write_program(programs / "id", "echo 1000")
    return tmp_path


def write_program(file: Path, line: str) -> None:
    file.write_text(f"#!{shutil.which('bash')}\n{line}\n", encoding="utf-8")
    file.chmod(0o755)


def run_system(bare: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(bare / "bin"), "PYTHON": sys.executable}
    command = [f"{bare}/requirements/system.sh", "tests"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_who_may_not_install_is_told_all_that_is_missing_at_once(bare: Path) -> None:
    done = run_system(bare)
    assert (done.returncode, done.stdout) == (1, "")
    first, advice = done.stderr.splitlines()
    packages = advice.removeprefix("    Debian, Ubuntu: sudo apt-get install ").split()
    assert {"curl", "procps", "promtool"} <= set(packages)
    assert " ".join(packages) in first


@pytest.mark.parametrize("user", ["root", "sudo"])
def test_who_may_install_gets_it_from_apt(bare: Path, user: str) -> None:
    log = bare / "log"
    write_program(bare / "bin" / "apt-get", f'echo "$USED_SUDO$@" >> {log}')
    if user == "root":
        write_program(bare / "bin" / "id", "echo 0")
    else:
        write_program(bare / "bin" / "sudo", '[ "$1" = -n ] || USED_SUDO="sudo " "$@"')
    done = run_system(bare)
    assert (done.returncode, done.stderr) == (0, "")
    sudo = "sudo " if user == "sudo" else ""
    update, install = log.read_text(encoding="utf-8").splitlines()
    assert update == f"{sudo}update"
    assert install.startswith(f"{sudo}install -y --no-install-recommends ")
    assert {"chromium", "curl", "procps"} <= set(install.split())


def test_who_has_it_all_hears_nothing() -> None:
    done = subprocess.run(
        SYSTEM.split(), cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
