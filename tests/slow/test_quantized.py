"""Models with weights of 8 and of 4 bits on the real engine: their scores, and those of an adapter
that was trained on the unquantized model."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.scoring.encoder import Encoder
from app.scoring.profile import Profile
from app.scoring.prompt import PromptBuilder
from app.scoring.wording import Reader, Story
from tests.integration.conftest import titles
from tests.support.four_bits import write_form
from tests.support.models import make_lora, make_tiny_qwen3
from tests.support.servers import Service, start_service, stopped_at_end
from training.__main__ import main
from training.data.prepared import Impression
from training.metrics import Floats
from training.packed.scorer import score
from training.quantizing.check import load, same_order
from training.tuning.methods import load_trained

HISTORY = ["Tesla", "SpaceX"]
FORMATS = {"int8": 0.2, "awq": 0.06, "gptq": 0.06}
"""By how much log-odds may be off on average. bfloat16 alone makes 0.02 to 0.04; what goes into
matrices of 4 bits is not rounded further, and with int8 each rounding meets others'."""
CACHE_BYTES = 1 << 26


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, an adapter on it, its quantized forms, and rounded, which holds the same numbers as
    those with 4 bits."""
    root = tmp_path_factory.mktemp("quantized")
    base = make_tiny_qwen3(root / "base")
    words = ["quantize", "--model", str(base), "--to", "int8", "--output", str(root / "int8")]
    assert main(words) == 0
    for form in ("rounded", "awq", "gptq"):
        write_form(base, root / form, form)
    make_lora(base, root / "adapter", seed=1)
    return root


@pytest.fixture(scope="module")
def services(folder: Path) -> Iterator[dict[str, Service]]:
    """All of FORMATS with the adapter; they start side by side."""
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(
                stopped_at_end(
                    start_service(
                        folder / f"{name}-log",
                        model=str(folder / name),
                        adapters=json.dumps({"tuned": str(folder / "adapter")}),
                        state=str(folder / f"{name}-state"),
                        engine__kv_cache_memory_bytes=str(CACHE_BYTES),
                    )
                )
            )
            for name in FORMATS
        }
        for service in started.values():
            service.wait_until_ready()
        yield started


def log_odds(service: Service, model: str) -> Floats:
    """Of 16 stories, [16], as the service computes them."""
    body = {"model": model, "history": HISTORY, "candidates": titles(16)}
    answer = httpx.post(f"{service.url}/rank", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    rows = sorted(answer.json()["results"], key=lambda row: int(row["index"]))
    share = np.array([row["probability"] for row in rows])
    odds: Floats = np.log(share / (1 - share))
    return odds


def expected(folder: Path, model: str, adapter: str | None) -> Floats:
    """The same by transformers in float32."""
    builder = PromptBuilder(Encoder(folder / model / "tokenizer.json"), Profile())
    stories = [Story(title) for title in titles(16)]
    reader = Reader(history=[Story(title) for title in HISTORY])
    asked = Impression("", "", reader, stories, [""] * len(stories), None)
    loaded = (
        load(folder / model) if adapter is None else load_trained(folder / adapter, folder / model)
    )
    ((yes, no),) = score(loaded, builder, [asked])
    return yes - no


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantized_model_scores_in_float32_like_the_same_numbers_elsewhere(
    services: dict[str, Service], folder: Path, name: str
) -> None:
    found = log_odds(services[name], name)
    same = expected(folder, name if name == "int8" else "rounded", None)
    assert np.abs(found - same).mean() < FORMATS[name]
    assert same_order(same, found) > 0.8
    assert len(set(found)) == len(found)  # a bfloat16 head would give steps of 0.03
    assert "scores have the resolution of the model's head" not in services[name].log.read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_an_adapter_is_served_on_a_quantized_model(
    services: dict[str, Service], folder: Path, name: str
) -> None:
    base, found = (log_odds(services[name], model) for model in (name, "tuned"))
    same = expected(folder, "base" if name == "int8" else "rounded", "adapter")
    assert np.abs(found - same).mean() < FORMATS[name] < np.abs(found - base).mean() / 2
    assert same_order(same, found) > 0.8
    assert len(set(found)) == len(found)
