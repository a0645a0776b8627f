"""A wheel of the project, built as `pip install .` builds it."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.models import ROOT

PACKAGES = ("app", "frontpage", "training")


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def build(folder: Path) -> Path:
    """Built from a copy: setuptools leaves files in the folder in which it builds."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder))
    [built] = folder.glob("*.whl")
    return built
