"""A run of `loadtests.limit`: what its parts have in common, and what the machine allows."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import Settings
from loadtests.services import ROOT
from loadtests.speed import LIMIT, ORIGINAL, Row
from loadtests.workload import Workload, layer_weights

RANKED = (1, 10, 50, 200)
IDLE = 100


@dataclass(frozen=True)
class Setup:
    """What all parts of a run have in common. engine: vLLM's options, over the service's own."""

    model: str
    mind: str
    history: int
    layout: str
    seconds: float
    concurrency: int
    engine: dict[str, Any]
    reduced: bool = False

    @property
    def ranked(self) -> tuple[int, ...]:
        return (10,) if self.reduced else RANKED

    def settings(self) -> Settings:
        return Settings(model=Path(self.model), engine=self.engine)

    def workload(self) -> Workload:
        return Workload(Path(self.model), Path(self.mind), self.history)


def describe(setup: Setup) -> dict[str, Any]:
    """The machine, what it allows, and the options that the service gives to vLLM."""
    import torch
    import transformers

    from loadtests.training_cost import matrix_product_rate

    rate = matrix_product_rate() * 1e12
    weights = layer_weights(Path(setup.model))
    import vllm

    from app.engine.vllm import engine_options

    options = engine_options(setup.settings())
    workload = setup.workload()
    needed = {
        f"{shape} {layout}": workload.needed_tokens(targets, layout)
        for layout in dict.fromkeys((setup.layout, ORIGINAL))
        for shape, targets in [
            ("predict", 1),
            *((f"rank {targets}", targets) for targets in (*RANKED, IDLE)),
        ]
    }
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "processors": os.cpu_count(),
        "matrix_teraflops_per_s": round(rate / 1e12, 3),
        "layer_weights": weights,
        "token_limit_per_s": round(rate / (2 * weights), 1),
        "needed_tokens_per_story": {name: round(tokens, 2) for name, tokens in needed.items()},
        "engine": {
            name: value
            for name, value in options.items()
            if name not in ("model", "served_model_name", "worker_extension_cls")
        },
        "preload": os.environ.get("LD_PRELOAD", ""),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "vllm": vllm.__version__,
        },
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def limit_rows(about: dict[str, Any]) -> list[Row]:
    """Stories a second that the matrix products alone would take."""
    limit = float(about["token_limit_per_s"])
    rows = []
    for name, tokens in about["needed_tokens_per_story"].items():
        shape, _, layout = name.rpartition(" ")
        figures = {"stories_per_s": limit / tokens, "computed_per_story": float(tokens)}
        rows.append(Row(LIMIT, shape, layout, 0, figures))
    return rows


def commit() -> str | None:
    words = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
