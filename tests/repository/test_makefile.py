"""What `make serve` serves."""

import os
import subprocess

import pytest

from tests.support.models import ROOT

BESIDE = """FRONTPAGE_ADAPTERS='{"smollm2-135m-instruct": "models/news-smollm2-undone"}'"""


def serve_command(**environment: str) -> str:
    """The last line that make would run."""
    # `make test` runs this test: a make within another also names the folders that it enters.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FRONTPAGE_", "MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "serve", "PORT=8123"],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_the_base_is_served_beside_the_tuned_model() -> None:
    assert (
        serve_command().split() == f"FRONTPAGE_PORT=8123 {BESIDE} .venv/bin/python -m app".split()
    )


@pytest.mark.parametrize("name", ["MODEL", "ADAPTERS", "CONFIG", "SECRETS"])
def test_who_says_what_to_serve_gets_no_more(name: str) -> None:
    assert "FRONTPAGE_ADAPTERS=" not in serve_command(**{f"FRONTPAGE_{name}": "x"})
