"""A tiny random Qwen3 with the real tokenizer, two PEFT LoRA adapters side by side, and merged."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file, save_file

from app.scoring.profile import Profile
from app.scoring.prompt import Encoder, PromptBuilder, Reader, Story
from tests.integration.conftest import titles
from tests.models import ROOT, make_lora, make_tiny_qwen3
from tests.servers import Service, start_service, stopped_at_end

LISTS = ("history", "liked", "disliked")
READER = {"history": ["Tesla", "SpaceX"], "liked": ["Apple"]}
CALIBRATION = {"slope": 0.5, "intercept": -1.0}
LLAMA_FACTORY: dict[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "Qwen/Qwen3-8B",
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 16,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": [
        "up_proj",
        "v_proj",
        "down_proj",
        "k_proj",
        "q_proj",
        "gate_proj",
        "o_proj",
    ],
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_rslora": False,
}
"""adapter_config.json as LLaMA-Factory 0.9.3 writes it, with PEFT 0.15 and a hub's model id."""


@dataclass
class Folders:
    base: Path
    first: Path
    second: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("tiny")
    base = make_tiny_qwen3(root / "tiny-qwen3")
    profile = {"layout": "compact", "no_think": True, "history": 9, "calibration": CALIBRATION}
    first = make_lora(base, root / "first", seed=1, **profile)
    second = make_lora(base, root / "second", seed=2)
    return Folders(base, first, second)


@pytest.fixture(scope="module")
def with_adapters(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    adapters = {"first": str(folders.first), "second": str(folders.second)}
    log = tmp_path_factory.mktemp("log") / "log"
    service = start_service(
        log,
        model=str(folders.base),
        adapters=json.dumps(adapters),
        default_model="second",
        adapter_root=str(folders.base.parent),
        max_adapters="1",
    )
    with stopped_at_end(service):
        service.wait_until_ready()
        yield service


@pytest.fixture(scope="module")
def merged(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("log") / "log"
    adapters = json.dumps({"news": str(folders.first)})
    service = start_service(log, model=str(folders.base), adapters=adapters, merged="true")
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


def post_adapter(service: Service, name: str, path: str) -> httpx.Response:
    body = {"name": name, "path": path}
    return httpx.post(f"{service.url}/adapters", json=body, timeout=120)


def test_adapters_come_and_go_while_serving(with_adapters: Service, folders: Folders) -> None:
    """Loads, a next version behind the same name with a warm prefix cache, an alias, unloading;
    nothing of it changes what the base and the other adapters answer."""
    others = ("tiny-qwen3", "first", "second")
    before = {name: predict(with_adapters, name, "Microsoft")["probability"] for name in others}
    make_lora(folders.base, folders.base.parent / "third", seed=3)
    make_lora(folders.base, folders.base.parent / "fourth", seed=4)
    assert post_adapter(with_adapters, "news", "third").json()["version"] == 1
    third = [predict(with_adapters, "news", title)["probability"] for title in titles(6)]
    assert post_adapter(with_adapters, "news", "fourth").json()["version"] == 2
    fourth = [predict(with_adapters, "news", title)["probability"] for title in titles(6)]
    assert min(abs(a - b) for a, b in zip(third, fourth, strict=True)) > 1e-3
    assert post_adapter(with_adapters, "news", "third").json()["version"] == 3
    again = [predict(with_adapters, "news", title)["probability"] for title in titles(6)]
    assert again == pytest.approx(third, abs=1e-3)
    assert chat(with_adapters, "news")["model"] == "news"
    assert chat(with_adapters, "news", stream=True)["model"] == "news"
    httpx.put(f"{with_adapters.url}/aliases/front", json={"weights": {"news": 1}})
    assert predict(with_adapters, "front", "Microsoft")["model"] == "news"
    assert chat(with_adapters, "front")["model"] == "news"
    httpx.delete(f"{with_adapters.url}/aliases/front")
    assert httpx.delete(f"{with_adapters.url}/adapters/news", timeout=60).status_code == 200
    for name, probability in before.items():
        found = predict(with_adapters, name, "Microsoft")["probability"]
        assert found == pytest.approx(probability, abs=1e-3)


def chat(service: Service, model: str, stream: bool = False) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 3,
        "stream": stream,
    }
    response = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60)
    text = response.text.splitlines()[0].removeprefix("data: ") if stream else response.text
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_an_adapter_of_llama_factory_is_served(with_adapters: Service, folders: Folders) -> None:
    """Two files, no profile: it has the original prompt, and its weights take part."""
    folder = folders.base.parent / "llama-factory"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(LLAMA_FACTORY, indent=2))
    shutil.copy(folders.second / "adapter_model.safetensors", folder)
    assert post_adapter(with_adapters, "news", "llama-factory").is_success
    builder = PromptBuilder(Encoder(folders.base / "tokenizer.json"), Profile())
    reader = Reader(*([Story(title) for title in READER.get(name, [])] for name in LISTS))
    for title in titles(6):
        (prompt,) = builder.build(reader, [Story(title)], 2000)
        found, same, base = (
            predict(with_adapters, name, title) for name in ("news", "second", "tiny-qwen3")
        )
        assert found["usage"]["prompt_tokens"] == len(prompt.tokens)
        assert found["probability"] == pytest.approx(same["probability"], abs=1e-3)
        assert abs(found["probability"] - base["probability"]) > 1e-3
    assert httpx.delete(f"{with_adapters.url}/adapters/news", timeout=60).status_code == 200


def test_an_adapter_that_does_nothing_is_refused(with_adapters: Service, folders: Folders) -> None:
    """By the real engine's scores; nothing else changes."""
    folder = make_lora(folders.base, folders.base.parent / "nothing", seed=5)
    tensors = load_file(folder / "adapter_model.safetensors")
    zeros = {name: t * 0 if "lora_B" in name else t for name, t in tensors.items()}
    save_file(zeros, folder / "adapter_model.safetensors")
    response = post_adapter(with_adapters, "news", "nothing")
    assert response.status_code == 422
    assert "changes no score" in response.json()["error"]["message"]
    assert httpx.get(f"{with_adapters.url}/v1/models").json()["data"][-1]["id"] == "second"


def test_sigterm_lets_a_stream_end(with_adapters: Service) -> None:
    """Last of this module: it stops the service."""
    body = {
        "model": "tiny-qwen3",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 300,
        "ignore_eos": True,
        "stream": True,
    }
    url = f"{with_adapters.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        with_adapters.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert httpx.get(f"{with_adapters.url}/ready").status_code == 503
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert with_adapters.process.wait(30) == 0
