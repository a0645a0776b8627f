"""A tiny random Qwen3 with the real tokenizer, two PEFT LoRA adapters side by side, and merged."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import titles
from tests.models import ROOT, make_lora, make_tiny_qwen3, merge_lora
from tests.servers import Service, start_service, stopped_at_end

READER = {"history": ["Tesla", "SpaceX"], "liked": ["Apple"]}
CALIBRATION = {"slope": 0.5, "intercept": -1.0}


@dataclass
class Folders:
    base: Path
    first: Path
    second: Path
    merged: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("tiny")
    base = make_tiny_qwen3(root / "tiny-qwen3")
    profile = {"layout": "compact", "no_think": True, "history": 9, "calibration": CALIBRATION}
    first = make_lora(base, root / "first", seed=1, **profile)
    second = make_lora(base, root / "second", seed=2)
    return Folders(base, first, second, merge_lora(base, first, root / "merged"))


@pytest.fixture(scope="module")
def with_adapters(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    adapters = {"first": str(folders.first), "second": str(folders.second)}
    log = tmp_path_factory.mktemp("log") / "log"
    service = start_service(
        log, model=str(folders.base), adapters=json.dumps(adapters), default_model="second"
    )
    with stopped_at_end(service):
        service.wait_until_ready()
        yield service


@pytest.fixture(scope="module")
def merged(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("log") / "log"
    service = start_service(log, model=str(folders.merged), model_name="news")
    with stopped_at_end(service):
        service.wait_until_ready()
        yield service


def predict(service: Service, model: str | None, target: str) -> dict[str, Any]:
    body = {**READER, "target": target, **({"model": model} if model else {})}
    response = httpx.post(f"{service.url}/predict", json=body, timeout=120)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_models_lists_base_and_adapters(with_adapters: Service) -> None:
    models = httpx.get(f"{with_adapters.url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["tiny-qwen3", "first", "second"]


def test_adapters_score_differently_side_by_side(with_adapters: Service) -> None:
    """Mixed in one moment they answer as each does alone: nothing leaks between adapters."""
    names = ["tiny-qwen3", "first", "second"]
    wanted = [(name, title) for title in titles(8) for name in names]
    alone = {pair: predict(with_adapters, *pair)["probability"] for pair in wanted}
    with ThreadPoolExecutor(len(wanted)) as pool:
        mixed = dict(
            zip(wanted, pool.map(lambda pair: predict(with_adapters, *pair), wanted), strict=True)
        )
    for pair in wanted:
        assert mixed[pair]["model"] == pair[0]
        assert mixed[pair]["probability"] == pytest.approx(alone[pair], abs=1e-3)
    for title in titles(8):
        assert len({round(alone[name, title], 3) for name in names}) == 3


def test_the_default_model_can_be_an_adapter(with_adapters: Service) -> None:
    answer = predict(with_adapters, None, "Microsoft")
    assert answer["model"] == "second"
    named = predict(with_adapters, "second", "Microsoft")
    assert answer["probability"] == pytest.approx(named["probability"], abs=1e-3)


def test_each_adapter_has_its_own_prompt(with_adapters: Service) -> None:
    original = predict(with_adapters, "second", "Microsoft")["usage"]["prompt_tokens"]
    compact = predict(with_adapters, "first", "Microsoft")["usage"]["prompt_tokens"]
    assert compact < original - 20


def test_merged_equals_unmerged_within_rounding(with_adapters: Service, merged: Service) -> None:
    def spread(values: list[float]) -> float:
        return max(values) - min(values)

    unmerged = [predict(with_adapters, "first", title)["probability"] for title in titles(16)]
    together = [predict(merged, "news", title)["probability"] for title in titles(16)]
    base = [predict(with_adapters, "tiny-qwen3", title)["probability"] for title in titles(16)]
    worst = max(abs(a - b) for a, b in zip(unmerged, together, strict=True))
    assert worst < 0.03
    # Far less than what the adapter does, and than how stories differ under it.
    assert worst < spread(unmerged) / 3
    assert worst < max(abs(a - b) for a, b in zip(unmerged, base, strict=True)) / 3


def test_chat_by_adapter_name(with_adapters: Service) -> None:
    body = {"model": "first", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    response = httpx.post(f"{with_adapters.url}/v1/chat/completions", json=body, timeout=60)
    assert response.json()["model"] == "first"
    body["model"] = "third"
    missing = httpx.post(f"{with_adapters.url}/v1/chat/completions", json=body, timeout=60)
    assert missing.status_code == 404


def test_unknown_model_names_what_there_is(with_adapters: Service) -> None:
    response = httpx.post(f"{with_adapters.url}/predict", json={"model": "x", "target": "t"})
    assert response.status_code == 404
    assert "tiny-qwen3, first, second" in response.json()["error"]["message"]


def test_base_adapter_and_merged_compared_under_load(
    with_adapters: Service, merged: Service, tmp_path: Path
) -> None:
    variants = (
        f"base={with_adapters.url}#tiny-qwen3",
        f"adapters={with_adapters.url}#first,second",
        f"merged={merged.url}#news",
    )
    load = ("--kinds=predict,rank,chat", "--users=10", "--seconds=2", "--rounds=1", "--warmup=0")
    command = [sys.executable, "-m", "loadtests.compare", *variants, *load, f"--out={tmp_path}"]
    subprocess.run([*command, "--objective=error_share=0"], cwd=ROOT, check=True)
    found = json.loads((tmp_path / "compare.json").read_text())["variants"]
    assert list(found) == ["base", "adapters", "merged"]
    assert all(one["requests"] >= 10 and one["answers_per_s_ratio"] > 0 for one in found.values())
