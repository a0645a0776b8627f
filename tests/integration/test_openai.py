"""OpenAI's API on the default model, its clients that leave, and the end of its engine."""

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

from tests.integration.conftest import MODEL
from tests.repository.test_openapi import schemathesis
from tests.support.servers import Service

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


def test_the_original_projects_examples(default_service: Service) -> None:
    """cURL, requests and the OpenAI SDK as that project calls its API."""
    body: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 10}
    body["temperature"] = 0.01
    url = f"{default_service.url}/v1/chat/completions"
    curl = subprocess.run(
        ["curl", "-s", url, "-H", "Content-Type: application/json", "-d", json.dumps(body)],
        capture_output=True,
        check=True,
    )
    by_curl = json.loads(curl.stdout)["choices"][0]["message"]["content"]
    by_requests = requests.post(url, json=body, timeout=60).json()
    client = openai.OpenAI(base_url=f"{default_service.url}/v1", api_key="0")
    by_sdk = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0.01, max_tokens=10
    )
    assert by_curl
    assert by_requests["choices"][0]["message"]["content"]
    assert by_sdk.choices[0].message.content


def gauge(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1])


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
    before = gauge(http, "vllm:generation_tokens_total")
    with suppress(httpx.ReadTimeout), http.stream("POST", url, json=body, timeout=1.5) as response:
        for number, _ in enumerate(response.iter_lines()):
            if number > 40:  # of a stream of thousands
                break
    while gauge(http, "vllm:num_requests_running"):
        time.sleep(0.05)
    assert gauge(http, "vllm:generation_tokens_total") - before < 4000  # it was cut short


def test_schemathesis_finds_no_server_error(default_service: Service) -> None:
    report = asyncio.run(
        schemathesis(default_service.url, "--max-examples", "5", "--phases", "examples,fuzzing")
    )
    assert "passed" in report


def test_a_dead_engine_is_503(default_service: Service, http: httpx.Client) -> None:
    """Last of the tests that use this service: it kills the engine's process, and each one that
    takes its place until the service gives up."""
    kill_engine(default_service)
    while http.get("/health").json()["engine"] == "ready":
        time.sleep(0.05)
    for response in (
        http.get("/ready"),
        http.post("/predict", json={"target": "t", "degraded": "refuse"}),
        http.post("/v1/chat/completions", json={"model": MODEL, "messages": MESSAGES}),
    ):
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "engine_unavailable"
    signals = http.post("/rank", json={"candidates": ["Rain", "Cup final"]}).json()
    assert signals["degraded"]
    assert {one["stage"] for one in signals["results"]} == {"signals"}
    while default_service.process.poll() is None:
        kill_engine(default_service)
        time.sleep(0.1)
    assert default_service.process.returncode == 1  # for its supervisor to see
    log = default_service.log.read_text()
    assert "the engine could not be started again" in log
    assert "the service exits in 5 s" in log


def kill_engine(service: Service) -> None:
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process(service.process.pid).children(recursive=True):
            if "resource_tracker" not in " ".join(child.cmdline()):
                child.kill()
