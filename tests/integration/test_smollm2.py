"""The default model, SmolLM2-135M-Instruct in bfloat16 on a CPU, through HTTP."""

import asyncio
import json
import subprocess
import time
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
import requests

from tests.integration.conftest import titles
from tests.models import SMOLLM2
from tests.servers import Service
from tests.test_openapi import schemathesis

MODEL = "smollm2-135m-instruct"
SYSTEM = (
    "You are a news recommendation expert. Based on user's click history and preferences, predict"
    " if they will click the target news."
)
USER = (
    'User click histories: "Tesla", "SpaceX"\n'
    'User\'s liked news: "Apple", "Google"\n'
    'User\'s disliked news: "weather", "sports"\n'
    'Target news: "Microsoft"\n'
    "Will the user click this news? Answer with 'Yes.' or 'No.'"
)
MESSAGES: list[Any] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": USER},
]
READER = {
    "history": ["Tesla", "SpaceX"],
    "liked": ["Apple", "Google"],
    "disliked": ["weather", "sports"],
}


@pytest.fixture
def sdk(smollm2_service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2_service.url}/v1", api_key="none", max_retries=0)


def gauge(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1])


def test_start_says_what_it_loads_and_for_how_long(smollm2_service: Service) -> None:
    log = smollm2_service.log.read_text()
    assert f"loaded model {MODEL} from {SMOLLM2} in " in log
    assert f"loaded first score of {MODEL} in " in log
    assert f"ready: {smollm2_service.url}" in log


def test_predict_agrees_with_transformers_in_float32(http: httpx.Client) -> None:
    """The same prompt through another implementation, with the head in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{USER}<|im_end|>\n"
    ids = tokenizer(text + "<|im_start|>assistant\n", return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=torch.float32)
    with torch.no_grad():
        logs = model(ids).logits[0, -1].log_softmax(-1)
    yes, no = (tokenizer.encode(word)[0] for word in ("Yes", "No"))
    expected = torch.sigmoid(logs[yes] - logs[no]).item()
    body = http.post("/predict", json={**READER, "target": "Microsoft"}).json()
    assert body["usage"]["prompt_tokens"] == pytest.approx(ids.shape[1], abs=5)
    assert body["probability"] == pytest.approx(expected, abs=0.03)  # bfloat16 layers
    mass = (logs[yes].exp() + logs[no].exp()).item()
    assert body["label_mass"] == pytest.approx(mass, abs=0.05)


def test_rank_equals_predict_and_uses_the_prefix_cache(http: httpx.Client) -> None:
    candidates = titles(20)
    ranked = http.post("/rank", json={**READER, "candidates": candidates}).json()
    alone = [http.post("/predict", json={**READER, "target": one}).json() for one in candidates]
    for result in ranked["results"]:
        expected = alone[result["index"]]["probability"]
        assert result["probability"] == pytest.approx(expected, abs=1e-3)
    assert ranked["usage"]["cached_tokens"] > ranked["usage"]["prompt_tokens"] / 3
    assert alone[-1]["usage"]["cached_tokens"] > 30


def test_two_hundred_stories_do_not_tie(http: httpx.Client) -> None:
    results = http.post("/rank", json={**READER, "candidates": titles(200)}).json()["results"]
    assert len({result["probability"] for result in results}) >= 198


def test_batch_equals_predict(http: httpx.Client) -> None:
    pairs = [{**READER, "target": one} for one in titles(5)] + [{"target": "Microsoft"}]
    together = http.post("/predict/batch", json={"pairs": pairs}).json()["results"]
    for pair, result in zip(pairs, together, strict=True):
        alone = http.post("/predict", json=pair).json()
        assert result["probability"] == pytest.approx(alone["probability"], abs=1e-3)


def test_openai_sdk_chat(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0.01, max_tokens=10
    )
    assert answer.choices[0].message.content
    assert answer.usage
    assert answer.usage.completion_tokens <= 10


def test_openai_sdk_streams_the_same_text(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=10
    )
    chunks = sdk.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        temperature=0,
        max_tokens=10,
        stream=True,
        stream_options={"include_usage": True},
    )
    parts = list(chunks)
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert len(parts) > 3
    assert text == whole.choices[0].message.content
    assert parts[-1].usage


def test_openai_sdk_completions_and_models(sdk: openai.OpenAI) -> None:
    done = sdk.completions.create(model=MODEL, prompt="The news today:", max_tokens=5, logprobs=1)
    assert done.choices[0].text
    assert done.choices[0].logprobs
    assert [model.id for model in sdk.models.list()] == [MODEL]


def test_openai_sdk_error_types(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="none", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=-1)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        sdk.completions.create(model=MODEL, prompt="word " * 9000, max_tokens=5)
    with pytest.raises(openai.APIStatusError) as large:
        sdk.completions.create(model=MODEL, prompt="x" * (5 << 20))
    assert large.value.status_code == 413


def test_a_seed_cannot_end_the_engine(sdk: openai.OpenAI) -> None:
    """vLLM 0.32 dies of one on a CPU, when a prompt is read in parts."""
    with pytest.raises(openai.BadRequestError, match="seed: vLLM does not support it on a CPU"):
        sdk.chat.completions.create(model=MODEL, messages=MESSAGES, seed=1)


def test_the_original_projects_examples(smollm2_service: Service) -> None:
    """cURL, requests and the OpenAI SDK as that project calls its API."""
    body: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 10}
    body["temperature"] = 0.01
    url = f"{smollm2_service.url}/v1/chat/completions"
    curl = subprocess.run(
        ["curl", "-s", url, "-H", "Content-Type: application/json", "-d", json.dumps(body)],
        capture_output=True,
        check=True,
    )
    by_curl = json.loads(curl.stdout)["choices"][0]["message"]["content"]
    by_requests = requests.post(url, json=body, timeout=60).json()
    client = openai.OpenAI(base_url=f"{smollm2_service.url}/v1", api_key="0")
    by_sdk = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0.01, max_tokens=10
    )
    assert by_curl
    assert by_requests["choices"][0]["message"]["content"]
    assert by_sdk.choices[0].message.content


def test_metrics_hold_ours_and_vllms(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    assert f'frontpage_stories_scored_total{{model="{MODEL}"}}' in text
    assert "vllm:prompt_tokens_total{" in text


@pytest.mark.parametrize("stream", [True, False])
def test_a_chat_client_that_leaves_is_aborted(http: httpx.Client, stream: bool) -> None:
    url = "/v1/chat/completions"
    body = {
        "model": MODEL,
        "messages": MESSAGES,
        "max_tokens": 4000,
        "ignore_eos": True,
        "stream": stream,
    }
    with suppress(httpx.ReadTimeout), http.stream("POST", url, json=body, timeout=1.5) as response:
        for number, _ in enumerate(response.iter_lines()):
            if number > 40:  # of a stream of thousands
                break
    left = time.monotonic()
    while gauge(http, "vllm:num_requests_running") and time.monotonic() - left < 10:
        time.sleep(0.05)
    assert time.monotonic() - left < 1


def test_schemathesis_finds_no_server_error(smollm2_service: Service) -> None:
    report = asyncio.run(
        schemathesis(smollm2_service.url, "--max-examples", "5", "--phases", "examples,fuzzing")
    )
    assert "passed" in report


def test_a_dead_engine_is_503(smollm2_service: Service, http: httpx.Client) -> None:
    """Last of this module: it kills the engine's process."""
    import psutil

    for child in psutil.Process(smollm2_service.process.pid).children(recursive=True):
        child.kill()
    killed = time.monotonic()
    while http.get("/health").status_code == 200 and time.monotonic() - killed < 20:
        time.sleep(0.1)
    assert time.monotonic() - killed < 5
    for response in (
        http.get("/ready"),
        http.post("/predict", json={"target": "t"}),
        http.post("/v1/chat/completions", json={"model": MODEL, "messages": MESSAGES}),
    ):
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "engine_unavailable"
    assert smollm2_service.process.wait(20) == 1  # for its supervisor to see
