"""What docs/tutorial.md needs to run: the repository, a tiny base, and today's adapter on it."""

import os
import sys
from pathlib import Path

from tests.support.evaluate_runs import PROFILE
from tests.support.models import ROOT, make_lora
from tests.support.servers import ENVIRONMENT
from tests.support.training_page import make_servable, script

PAGE = ROOT / "docs" / "tutorial.md"


def prepare(root: Path) -> tuple[list[str], dict[str, str]]:
    """The command to run in this folder, and its environment."""
    for name in ("app", "training", "configs", "examples", "frontpage"):
        (root / name).symlink_to(ROOT / name)
    make_servable(root / "models" / "tiny")
    make_lora(root / "models" / "tiny", root / "today", 1, **PROFILE.model_dump(mode="json"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PATH": path}
    return ["bash", "-c", script(PAGE, TODAY="today")], environment
