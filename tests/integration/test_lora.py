"""A tiny random Qwen3 with the real tokenizer, two PEFT LoRA adapters side by side, and merged."""

import http.client
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file, save_file

from app.scoring.encoder import Encoder
from app.scoring.profile import Profile
from app.scoring.prompt import PromptBuilder
from app.scoring.wording import Reader, Story
from loadtests.replicas.parts import wait_until
from tests.integration.conftest import titles
from tests.support.models import ROOT, make_lora
from tests.support.servers import Service
from tests.support.shared_services import ADMIN_KEY, TinyModels
from tests.support.waiting import HANG_S

LISTS = ("history", "liked", "disliked")
READER = {"history": ["Tesla", "SpaceX"], "liked": ["Apple"]}
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


def post(service: Service, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{service.url}/{path}", json=body, headers=service.headers, timeout=120)


def delete(service: Service, path: str) -> httpx.Response:
    return httpx.delete(f"{service.url}/{path}", headers=service.headers, timeout=60)


def model_names(service: Service) -> list[str]:
    answer = httpx.get(f"{service.url}/v1/models", headers=service.headers)
    return [model["id"] for model in answer.json()["data"]]


def predict(service: Service, model: str | None, target: str) -> dict[str, Any]:
    body = {**READER, "target": target, **({"model": model} if model else {})}
    response = post(service, "predict", body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_models_lists_base_and_adapters(tiny_service: Service) -> None:
    assert model_names(tiny_service) == ["tiny-qwen3", "first", "second"]


def test_adapters_score_differently_side_by_side(tiny_service: Service) -> None:
    """Mixed in one moment they answer as each does alone: nothing leaks between adapters."""
    names = ["tiny-qwen3", "first", "second"]
    wanted = [(name, title) for title in titles(8) for name in names]
    alone = {pair: predict(tiny_service, *pair)["probability"] for pair in wanted}
    with ThreadPoolExecutor(len(wanted)) as pool:
        mixed = dict(
            zip(wanted, pool.map(lambda pair: predict(tiny_service, *pair), wanted), strict=True)
        )
    for pair in wanted:
        assert mixed[pair]["model"] == pair[0]
        assert mixed[pair]["probability"] == pytest.approx(alone[pair], abs=1e-3)
    for title in titles(8):
        assert len({round(alone[name, title], 3) for name in names}) == 3


def test_the_default_model_can_be_an_adapter(tiny_service: Service) -> None:
    answer = predict(tiny_service, None, "Microsoft")
    assert answer["model"] == "second"
    named = predict(tiny_service, "second", "Microsoft")
    assert answer["probability"] == pytest.approx(named["probability"], abs=1e-3)


def test_each_adapter_has_its_own_prompt(tiny_service: Service) -> None:
    original = predict(tiny_service, "second", "Microsoft")["usage"]["prompt_tokens"]
    compact = predict(tiny_service, "first", "Microsoft")["usage"]["prompt_tokens"]
    assert compact < original - 20


def test_merged_equals_unmerged_within_rounding(
    tiny_service: Service, merged_service: Service
) -> None:
    def spread(values: list[float]) -> float:
        return max(values) - min(values)

    unmerged = [predict(tiny_service, "first", title)["probability"] for title in titles(16)]
    together = [predict(merged_service, "news", title)["probability"] for title in titles(16)]
    base = [predict(tiny_service, "tiny-qwen3", title)["probability"] for title in titles(16)]
    worst = max(abs(a - b) for a, b in zip(unmerged, together, strict=True))
    assert worst < 0.03
    # Far less than what the adapter does, and than how stories differ under it.
    assert worst < spread(unmerged) / 3
    assert worst < max(abs(a - b) for a, b in zip(unmerged, base, strict=True)) / 3


def test_chat_by_adapter_name(tiny_service: Service) -> None:
    body = {"model": "first", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    response = post(tiny_service, "v1/chat/completions", body)
    assert response.json()["model"] == "first"
    body["model"] = "third"
    missing = post(tiny_service, "v1/chat/completions", body)
    assert missing.status_code == 404


def test_unknown_model_names_what_there_is(tiny_service: Service) -> None:
    response = post(tiny_service, "predict", {"model": "x", "target": "t"})
    assert response.status_code == 404
    assert "tiny-qwen3, first, second" in response.json()["error"]["message"]


def test_base_adapter_and_merged_compared_under_load(
    tiny_service: Service, merged_service: Service, tmp_path: Path
) -> None:
    variants = (
        f"base={tiny_service.url}#tiny-qwen3",
        f"adapters={tiny_service.url}#first,second",
        f"merged={merged_service.url}#news",
    )
    load = ("--kinds=predict,rank,chat", "--users=10", "--seconds=2", "--rounds=1", "--warmup=0")
    options = (*load, f"--api-key={ADMIN_KEY}", f"--out={tmp_path}")
    command = [sys.executable, "-m", "loadtests.compare", *variants, *options]
    subprocess.run([*command, "--objective=error_share=0"], cwd=ROOT, check=True)
    found = json.loads((tmp_path / "compare.json").read_text())["variants"]
    assert list(found) == ["base", "adapters", "merged"]
    assert all(one["requests"] >= 10 and one["answers_per_s_ratio"] > 0 for one in found.values())


def post_adapter(service: Service, name: str, path: str) -> httpx.Response:
    return post(service, "adapters", {"name": name, "path": path})


def test_adapters_come_and_go_while_serving(tiny_service: Service, tiny_models: TinyModels) -> None:
    """Loads, a next version behind the same name with a warm prefix cache, an alias, unloading;
    nothing of it changes what the base and the other adapters answer."""
    others = ("tiny-qwen3", "first", "second")
    before = {name: predict(tiny_service, name, "Microsoft")["probability"] for name in others}
    make_lora(tiny_models.base, tiny_models.base.parent / "third", seed=3)
    make_lora(tiny_models.base, tiny_models.base.parent / "fourth", seed=4)
    version = post_adapter(tiny_service, "news", "third").json()["version"]
    third = [predict(tiny_service, "news", title)["probability"] for title in titles(6)]
    assert post_adapter(tiny_service, "news", "fourth").json()["version"] == version + 1
    fourth = [predict(tiny_service, "news", title)["probability"] for title in titles(6)]
    assert min(abs(a - b) for a, b in zip(third, fourth, strict=True)) > 1e-3
    assert post_adapter(tiny_service, "news", "third").json()["version"] == version + 2
    again = [predict(tiny_service, "news", title)["probability"] for title in titles(6)]
    assert again == pytest.approx(third, abs=1e-3)
    assert chat(tiny_service, "news")["model"] == "news"
    assert chat(tiny_service, "news", stream=True)["model"] == "news"
    url = f"{tiny_service.url}/aliases/front"
    httpx.put(url, json={"weights": {"news": 1}}, headers=tiny_service.headers)
    assert predict(tiny_service, "front", "Microsoft")["model"] == "news"
    assert chat(tiny_service, "front")["model"] == "news"
    delete(tiny_service, "aliases/front")
    assert delete(tiny_service, "adapters/news").status_code == 200
    for name, probability in before.items():
        found = predict(tiny_service, name, "Microsoft")["probability"]
        assert found == pytest.approx(probability, abs=1e-3)


def chat(service: Service, model: str, stream: bool = False) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 3,
        "stream": stream,
    }
    response = post(service, "v1/chat/completions", body)
    text = response.text.splitlines()[0].removeprefix("data: ") if stream else response.text
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_an_adapter_of_llama_factory_is_served(
    tiny_service: Service, tiny_models: TinyModels
) -> None:
    """Two files, no profile: it has the original prompt, and its weights take part."""
    folder = tiny_models.base.parent / "llama-factory"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(LLAMA_FACTORY, indent=2))
    shutil.copy(tiny_models.second / "adapter_model.safetensors", folder)
    assert post_adapter(tiny_service, "news", "llama-factory").is_success
    builder = PromptBuilder(Encoder(tiny_models.base / "tokenizer.json"), Profile())
    reader = Reader(*([Story(title) for title in READER.get(name, [])] for name in LISTS))
    for title in titles(6):
        (prompt,) = builder.build(reader, [Story(title)], 2000)
        found, same, base = (
            predict(tiny_service, name, title) for name in ("news", "second", "tiny-qwen3")
        )
        assert found["usage"]["prompt_tokens"] == len(prompt.tokens)
        assert found["probability"] == pytest.approx(same["probability"], abs=1e-3)
        assert abs(found["probability"] - base["probability"]) > 1e-3
    assert delete(tiny_service, "adapters/news").status_code == 200


def test_an_adapter_that_does_nothing_is_refused(
    tiny_service: Service, tiny_models: TinyModels
) -> None:
    """By the real engine's scores; nothing else changes."""
    folder = make_lora(tiny_models.base, tiny_models.base.parent / "nothing", seed=5)
    tensors = load_file(folder / "adapter_model.safetensors")
    zeros = {name: t * 0 if "lora_B" in name else t for name, t in tensors.items()}
    save_file(zeros, folder / "adapter_model.safetensors")
    response = post_adapter(tiny_service, "news", "nothing")
    assert response.status_code == 422
    assert "changes no score" in response.json()["error"]["message"]
    assert model_names(tiny_service)[-1] == "second"


def test_sigterm_lets_requests_end(tiny_service: Service) -> None:
    """The last test of this service, which it stops: a stream, and a request whose body comes
    only when the service has begun to stop."""
    chat: dict[str, Any] = {
        "model": "tiny-qwen3",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 100,
        "ignore_eos": True,
        "stream": True,
    }
    url = tiny_service.url
    headers = tiny_service.headers | {"X-Request-Timeout-Ms": f"{HANG_S:.0f}000"}
    body = b'{"target": "Rain at sea"}'
    with closing(http.client.HTTPConnection(url.removeprefix("http://"))) as held:
        held.putrequest("POST", "/predict")
        sized = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in (headers | sized).items():
            held.putheader(name, value)
        held.endheaders()
        wait_until(lambda: "frontpage_pending_requests 1.0" in metrics(tiny_service))
        path = f"{url}/v1/chat/completions"
        with httpx.stream("POST", path, json=chat, headers=headers, timeout=HANG_S) as response:
            lines = response.iter_lines()
            next(lines)
            tiny_service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: httpx.get(f"{url}/ready", timeout=HANG_S).status_code == 503)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        held.send(body)
        assert held.getresponse().status == 200
    assert tiny_service.process.wait(HANG_S) == 0


def metrics(service: Service) -> str:
    return httpx.get(f"{service.url}/metrics", headers=service.headers, timeout=HANG_S).text
