"""The default model, as `make serve` has it: SmolLM2-135M-Instruct, the shipped adapter merged."""

import asyncio
import json
import subprocess
import time
from contextlib import suppress
from itertools import product
from typing import Any

import httpx
import openai
import pytest
import requests

from tests.integration.conftest import titles
from tests.models import DEFAULT_MODEL, ROOT
from tests.servers import Service
from tests.test_openapi import schemathesis

MODEL = "news-smollm2"
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
PROMPT = """\
<|im_start|>system
Will the reader click the last story? Answer Yes. or No.<|im_end|>
<|im_start|>user
Liked:
Apple
Google
Passed over:
weather
sports
Clicked:
Tesla
SpaceX
Next:
Microsoft<|im_end|>
<|im_start|>assistant
"""
"""As the shipped profile words it for READER and the story Microsoft."""
READER = {
    "history": ["Tesla", "SpaceX"],
    "liked": ["Apple", "Google"],
    "disliked": ["weather", "sports"],
}


@pytest.fixture
def sdk(default_service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{default_service.url}/v1", api_key="none", max_retries=0)


def gauge(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1])


def test_start_says_what_it_loads_and_for_how_long(default_service: Service) -> None:
    log = default_service.log.read_text()
    assert f"loaded model {MODEL} from {DEFAULT_MODEL.relative_to(ROOT)} in " in log
    assert f"loaded first score of {MODEL} in " in log
    assert f"ready: {default_service.url}" in log


def test_predict_agrees_with_transformers_in_float32(http: httpx.Client) -> None:
    """The same prompt through another implementation, with the head in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEFAULT_MODEL)
    turn = PROMPT.index("<|im_start|>user\n") + len("<|im_start|>user\n")
    own = PROMPT.index("Microsoft")
    parts = (PROMPT[:turn], PROMPT[turn:own], PROMPT[own:])
    head, shared, rest = (tokenizer(part).input_ids for part in parts)
    filler = tokenizer("\n").input_ids * (-(len(head) + len(shared)) % 32)
    ids = torch.tensor([[*head, *filler, *shared, *rest]])
    model = AutoModelForCausalLM.from_pretrained(DEFAULT_MODEL, dtype=torch.float32)
    with torch.no_grad():
        logs = model(ids).logits[0, -1].log_softmax(-1)
    yes, no = (tokenizer.encode(word)[0] for word in ("Yes", "No"))
    calibration = json.loads((DEFAULT_MODEL / "profile.json").read_text())["calibration"]
    log_odds = calibration["slope"] * (logs[yes] - logs[no]) + calibration["intercept"]
    expected = torch.sigmoid(log_odds).item()
    body = http.post("/predict", json={**READER, "target": "Microsoft"}).json()
    assert body["usage"]["prompt_tokens"] == ids.shape[1]
    assert body["probability"] == pytest.approx(expected, rel=0.1)  # bfloat16 layers
    mass = (logs[yes].exp() + logs[no].exp()).item()
    assert body["label_mass"] == pytest.approx(mass, abs=0.05)


TOPICS = {
    "sports": (
        "Quarterback leads late comeback to win the playoff game",
        "Coach fired after losing season",
        "Star pitcher signs record contract",
        "Underdogs reach the basketball final",
        "Veteran goalkeeper announces retirement",
        "Rookie breaks the touchdown record",
    ),
    "foodanddrink": (
        "30 easy slow cooker dinners for busy weeknights",
        "The best apple pie recipe you will ever bake",
        "Chefs share their Thanksgiving side dishes",
        "15 cozy soups to make this fall",
        "How to cook a juicy turkey every time",
        "Cheap pasta recipes everyone loves",
    ),
    "news": (
        "Senate votes on inquiry rules",
        "Governor signs new gun bill into law",
        "Candidates clash over health care in debate",
        "President meets foreign leaders at the White House",
        "House committee subpoenas former adviser",
        "Poll shows tight race in swing states",
    ),
    "autos": (
        "New pickup truck: first drive review",
        "Classic muscle cars that are worth a fortune",
        "Recall affects thousands of SUVs",
        "Electric car startup reveals its new model",
        "The most reliable used cars to buy",
        "Rare sports car sells at auction",
    ),
}
"""Invented titles: four that a reader clicked, and two to rank."""


@pytest.mark.parametrize("with_category", [True, False])
def test_readers_get_what_they_read(http: httpx.Client, with_category: bool) -> None:
    """Far better than chance, and the labels hold nearly all of the probability."""

    def stories(topic: str, part: slice) -> list[dict[str, str]]:
        more = {"category": topic} if with_category else {}
        return [{"title": title, "id": topic} | more for title in TOPICS[topic][part]]

    candidates = [story for topic in TOPICS for story in stories(topic, slice(4, 6))]
    above, masses = [], []
    for topic in TOPICS:
        body = {"history": stories(topic, slice(4)), "candidates": candidates}
        results = http.post("/rank", json=body).json()["results"]
        own, others = ([r for r in results if (r["id"] == topic) is same] for same in (True, False))
        above += [a["rank"] < b["rank"] for a in own for b in others]
        masses += [result["label_mass"] for result in results]
    assert sum(above) / len(above) >= 0.9  # the area under the ROC curve
    assert sum(mass >= 0.95 for mass in masses) >= 0.95 * len(masses)


def test_chat_answers_as_the_score_says(http: httpx.Client, sdk: openai.OpenAI) -> None:
    labels = []
    for topic, target in product(TOPICS, ("Rookie breaks the touchdown record", "Cheap pasta")):
        history = TOPICS[topic][:4]
        scored = http.post("/predict", json={"history": history, "target": target}).json()
        system = "Will the reader click the last story? Answer Yes. or No."
        user = "\n".join(["Clicked:", *history, "Next:", target])
        chat: list[Any] = [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
        ]
        answer = sdk.chat.completions.create(
            model=MODEL, messages=chat, temperature=0.01, max_tokens=10
        )
        assert answer.choices[0].message.content == scored["label"]
        labels.append(scored["label"])
    assert set(labels) == {"Yes.", "No."}


def test_rank_equals_predict_and_uses_the_prefix_cache(http: httpx.Client) -> None:
    candidates = titles(20)
    ranked = http.post("/rank", json={**READER, "candidates": candidates}).json()
    alone = [http.post("/predict", json={**READER, "target": one}).json() for one in candidates]
    for result in ranked["results"]:
        expected = alone[result["index"]]["probability"]
        assert result["probability"] == pytest.approx(expected, rel=0.05)  # bfloat16 layers
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
        assert result["probability"] == pytest.approx(alone["probability"], rel=0.05)


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


def test_schemathesis_finds_no_server_error(default_service: Service) -> None:
    report = asyncio.run(
        schemathesis(default_service.url, "--max-examples", "5", "--phases", "examples,fuzzing")
    )
    assert "passed" in report


def test_a_dead_engine_is_503(default_service: Service, http: httpx.Client) -> None:
    """Last of this module: it kills the engine's process."""
    import psutil

    for child in psutil.Process(default_service.process.pid).children(recursive=True):
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
    assert default_service.process.wait(20) == 1  # for its supervisor to see
