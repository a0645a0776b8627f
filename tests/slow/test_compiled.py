"""A model that `python -m app compile` has compiled answers as the same model does without that."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.engine.compiled import FOLDER, READY
from tests.support.models import ROOT
from tests.support.servers import Service, start_service, stopped_at_end
from tests.support.shared_services import TinyModels

FLOAT32 = {"dtype": "float32"}
"""In which results differ by rounding alone, so that a wrong adapter would be seen."""
CANDIDATES = [f"Story {number} about {topic}" for number in range(8) for topic in ("cars", "tea")]


@pytest.fixture
def settings(tiny_models: TinyModels, tmp_path: Path) -> dict[str, str]:
    base = shutil.copytree(tiny_models.base, tmp_path / "base")
    adapters = {"first": str(tiny_models.first), "second": str(tiny_models.second)}
    given = {"model": str(base), "adapters": json.dumps(adapters), "engine": json.dumps(FLOAT32)}
    variables = {f"FRONTPAGE_{name}".upper(): value for name, value in given.items()}
    for text in ("base is compiled for these settings", "base is compiled for these settings"):
        run = subprocess.run(
            [sys.executable, "-m", "app", "compile"],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert text in run.stdout
    assert "loading" not in run.stderr  # the second time, nothing was left to do
    return given


def probabilities(service: Service) -> dict[str, list[float]]:
    """Of all models, whose prompts the engine computes together."""

    def ask(model: str) -> list[float]:
        body = {"model": model, "history": ["Tesla", "Coffee"], "candidates": CANDIDATES}
        answer = httpx.post(f"{service.url}/rank", json=body, timeout=120).raise_for_status()
        found = sorted(answer.json()["results"], key=lambda one: int(one["index"]))
        return [float(one["probability"]) for one in found]

    names = ("base", "first", "second")
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def test_answers_are_those_of_the_model_as_it_is(settings: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "base" / FOLDER
    (made,) = folder.glob("*/torch_compile_cache/torch_aot_compile/*/rank_0_0/model")
    assert len(list(folder.glob(f"*/{READY}"))) == 1
    before = made.stat().st_mtime_ns
    with stopped_at_end(start_service(tmp_path / "compiled", **settings)) as service:
        service.wait_until_ready()
        compiled = probabilities(service)
    assert made.stat().st_mtime_ns == before  # read, and not made again
    eager = {**settings, "engine": json.dumps({**FLOAT32, "enforce_eager": True})}
    with stopped_at_end(start_service(tmp_path / "eager", **eager)) as service:
        service.wait_until_ready()
        expected = probabilities(service)
    for model, found in expected.items():
        assert compiled[model] == pytest.approx(found, abs=1e-4)
        assert len(set(found)) == len(CANDIDATES)
    first, second = expected["first"], expected["second"]
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 0.01
