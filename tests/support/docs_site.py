"""The documents as a site, built as `make site` does."""

import subprocess
import sys
from pathlib import Path

from tests.support.models import ROOT


def build(output: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    words = ["build", "--strict", "--config-file", str(config), "--site-dir", str(output)]
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *words], cwd=ROOT, capture_output=True, text=True
    )
