"""The command `frontpage`, and the options of `python -m app`. None of these starts a service."""

import os
import re
import subprocess
import sys

import pytest

from app import __version__
from app.settings import Limits, Settings
from tests.support.models import ROOT
from training.__main__ import COMMANDS


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_help_lists_both_commands() -> None:
    done = run("frontpage", "--help")
    assert done.returncode == 0
    for name in ("serve", "train"):
        assert f"\n    {name} " in done.stdout


def test_the_version_is_the_services() -> None:
    assert run("frontpage", "--version").stdout == f"frontpage {__version__}\n"


@pytest.mark.parametrize(
    ("program", "command"),
    [("python -m app", ["app"]), ("frontpage serve", ["frontpage", "serve"])],
)
def test_help_shows_each_setting_as_an_option_and_a_variable(
    program: str, command: list[str]
) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: {program} ")
    names = [*Settings.model_fields, *(f"limits.{name}" for name in Limits.model_fields)]
    for name in names:
        assert f"\n  --{name.replace('_', '-')}" in done.stdout
        assert f"FRONTPAGE_{name.replace('.', '__').upper()}]" in done.stdout


@pytest.mark.parametrize("command", [["app"], ["frontpage", "serve"]], ids=str)
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--prot", "9000"], "settings: unrecognized arguments: --prot 9000"),
        (["--por", "9000"], "settings: unrecognized arguments: --por 9000"),
        (["9000"], "settings: unrecognized arguments: 9000"),
        (["--port"], "settings: argument --port: expected one argument"),
        (["--port", "x"], "setting FRONTPAGE_PORT: Input should be a valid integer"),
        (["--limits.max-pairs", "0"], "setting FRONTPAGE_LIMITS__MAX_PAIRS: Input should be"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_one_line_that_names_it(
    command: list[str], wrong: list[str], named: str
) -> None:
    done = run(*command, *wrong)
    assert done.returncode == 1
    assert done.stderr.startswith(f"frontpage: error: {named}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", [[], ["srve"], ["--prot"]], ids=str)
def test_a_wrong_command_is_an_error(wrong: list[str]) -> None:
    done = run("frontpage", *wrong)
    assert done.returncode == 2
    assert (wrong or ["command"])[0] in done.stderr.splitlines()[-1]


def test_train_is_the_trainings_command() -> None:
    done = run("frontpage", "train", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: frontpage train ")
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s", done.stdout, re.M), name
    failed = run("frontpage", "train", "prepare", "--train", "none", "--out", "none")
    assert failed.returncode == 1
    assert "none" in failed.stderr
