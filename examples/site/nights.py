"""Between two days of the simulated site: a refresh of the model that one arm is served by."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from app.files import write_whole
from examples.replay import ReplayError
from examples.site.week import Arm, Night
from loadtests.services import LoadTestError

ALIAS = "refreshed"
ARMS: Mapping[str, Arm] = {ALIAS: {"model": ALIAS}}
CONFIG = Path(__file__).with_name("refresh.yaml")


@dataclass(frozen=True, slots=True)
class Nights:
    """config: a file of `training refresh`; its url, alias, adapters and name are set here. folder:
    for the adapters and the records, emptied first."""

    config: Path
    folder: Path

    def settings(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Of a service whose alias can be refreshed. Raises LoadTestError."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        (self.folder / "adapters").mkdir(parents=True)
        model = environment.get("FRONTPAGE_MODEL")
        if not model:
            raise LoadTestError("--refresh: set FRONTPAGE_MODEL, such as models/news-smollm2")
        aliases = f'{{"{ALIAS}": {{"{Path(model).name}": 1}}}}'
        found = {
            "ADAPTER_ROOT": str(self.folder / "adapters"),
            "MAX_ADAPTERS": "3",
            "MAX_ADAPTER_RANK": "8",
            "ALIASES": aliases,
        }
        return {f"FRONTPAGE_{name}": value for name, value in found.items()}

    def refresh(self, store: str, night: Night) -> None:
        """Raises ReplayError if the command fails; a model that is stopped at the gate is none."""
        plan = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        own = {"url": night.url, "alias": ALIAS, "adapters": str(self.folder / "adapters")}
        file = self.folder / "refresh.yaml"
        write_whole(file, yaml.safe_dump({**plan, **own, "name": "site"}))
        at = f"{datetime.fromtimestamp(night.end, UTC):%Y-%m-%dT%H:%M:%S}"
        command = [sys.executable, "-m", "training", "refresh", str(file), "--at", at]
        command += ["--out", str(self.folder / "records")]
        done = subprocess.run(command, env={**os.environ, "FRONTPAGE_STORE": store})
        if done.returncode:
            raise ReplayError(f"the refresh after day {night.day} ended with {done.returncode}")
