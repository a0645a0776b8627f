"""The setup shared by all parts of `loadtests.limit`, and what the machine allows."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from app.settings import Settings
from loadtests.limit.speed import LIMIT, ORIGINAL, Row
from loadtests.limit.workload import Workload, layer_weights
from training.provenance import processor

RANK_SIZES = (1, 10, 50, 200)
"""Candidates per ranking under load."""
IDLE_RANK_SIZE = 100
"""Candidates of the ranking that an otherwise idle service answers."""


@dataclass(frozen=True)
class Setup:
    """What all parts of a run have in common.

    model, mind: folders. history: titles per reader. seconds: length of one measurement.
    concurrency: stories in flight. engine: options of vLLM that override the service's own.
    """

    model: str
    mind: str
    history: int
    layout: str
    seconds: float
    concurrency: int
    engine: dict[str, Any]
    reduced: bool = False

    @property
    def rank_sizes(self) -> tuple[int, ...]:
        return (10,) if self.reduced else RANK_SIZES

    def at_once(self, targets: int) -> int:
        """How many calls with `targets` stories keep about `concurrency` stories in flight."""
        return max(2, self.concurrency // targets)

    def settings(self) -> Settings:
        return Settings(model=Path(self.model), engine=self.engine)

    def workload(self) -> Workload:
        return Workload(Path(self.model), Path(self.mind), self.history)


def describe(setup: Setup) -> dict[str, Any]:
    """Describe the machine, what it allows, and the options that the service passes to vLLM."""
    import torch
    import transformers

    rate = matrix_product_rate() * 1e12
    weights = layer_weights(Path(setup.model))
    import vllm

    from app.engine.arguments import engine_options

    options = engine_options(setup.settings())
    workload = setup.workload()
    needed = {
        f"{shape} {layout}": workload.needed_tokens(targets, layout)
        for layout in dict.fromkeys((setup.layout, ORIGINAL))
        for shape, targets in [
            ("predict", 1),
            *((f"rank {targets}", targets) for targets in (*RANK_SIZES, IDLE_RANK_SIZE)),
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


def matrix_product_rate() -> float:
    """Median rate of many bfloat16 products of random matrices, in TFLOP/s."""
    import torch

    on_gpu = torch.cuda.is_available()
    device, size, times = ("cuda", 8192, 50) if on_gpu else ("cpu", 1024, 10)
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds: list[float] = []
    for _ in range(times):
        if on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            a @ b
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        else:
            began = time.perf_counter()
            a @ b
            seconds.append(time.perf_counter() - began)
    if on_gpu:
        del a, b
        torch.cuda.empty_cache()
    return 2 * size**3 / float(median(seconds)) / 1e12


def limit_rows(about: dict[str, Any]) -> list[Row]:
    """Rows with the stories per second if only the matrix products took time.

    about: what `describe` returned.
    """
    limit = float(about["token_limit_per_s"])
    rows = []
    for name, tokens in about["needed_tokens_per_story"].items():
        shape, _, layout = name.rpartition(" ")
        figures = {"stories_per_s": limit / tokens, "computed_per_story": float(tokens)}
        rows.append(Row(LIMIT, shape, layout, 0, figures))
    return rows
