"""What the commands of the Makefile run."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.models import ROOT

BESIDE = """FRONTPAGE_ADAPTERS='{"smollm2-135m-instruct": "models/news-smollm2-undone"}'"""
MERGED = "models/news-smollm2"


def lines_of(target: str, **environment: str) -> list[str]:
    """What make would run."""
    # `make test` runs this test: a make within another also names the folders that it enters.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FRONTPAGE_", "MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target, "PORT=8123"],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def serve_command(**environment: str) -> str:
    """The last line."""
    return lines_of("serve", **environment)[-1]


@pytest.mark.parametrize("target", ["test", "coverage", "slow", "fuzz"])
def test_what_the_tests_need_of_the_system_comes_first(target: str) -> None:
    assert lines_of(target)[0] == "requirements/system.sh tests"


@pytest.mark.parametrize("target", ["serve", "check", "load", "limit"])
def test_what_runs_no_tests_needs_neither_chromium_nor_postgresql(target: str) -> None:
    scripts = {word for line in lines_of(target) for word in line.split() if word.endswith(".sh")}
    assert scripts <= {"requirements/install.sh", "requirements/part.sh"}


@pytest.mark.parametrize(("flag", "served"), [("yes", f"{MERGED}-int8"), ("", MERGED)])
def test_the_base_is_served_beside_the_tuned_model(flag: str, served: str) -> None:
    named = f"FRONTPAGE_MODEL={served} FRONTPAGE_MODEL_NAME=news-smollm2"
    assert (
        serve_command(MAKEFLAGS=f" -- INT8={flag}").split()
        == f"FRONTPAGE_PORT=8123 {named} {BESIDE} .venv/bin/python -m app".split()
    )


def test_a_processor_with_instructions_for_8_bits_gets_weights_of_8_bits() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    has_them = bool(flags & {"avx512_vnni", "amx_int8"})
    assert (f"FRONTPAGE_MODEL={MERGED}-int8 " in serve_command(DEVICE="cpu")) == has_them
    assert f"FRONTPAGE_MODEL={MERGED} " in serve_command(DEVICE="gpu")


@pytest.mark.parametrize("name", ["MODEL", "ADAPTERS", "CONFIG", "SECRETS"])
def test_who_says_what_to_serve_gets_no_more(name: str) -> None:
    assert "FRONTPAGE_ADAPTERS=" not in serve_command(**{f"FRONTPAGE_{name}": "x"})
