"""What clients send wrongly to OpenAI's routes: each is told what is wrong, nothing of it stays in
memory, and nobody else waits for it."""

import concurrent.futures
import json
import time
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.integration.conftest import MODEL
from tests.support.servers import Service
from tests.support.waiting import HANG_S

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
JSON = {"content-type": "application/json"}
HALF = "\ud83d"
USER = {"role": "user", "content": "Name one newspaper."}
LONG = {"max_tokens": 4000, "ignore_eos": True}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
TEXT_PART = ("messages.0.content.0", 'must be like {"type": "text"')
Json = dict[str, Any]


def post(http: httpx.Client, path: str, fields: Json, **headers: str) -> httpx.Response:
    default = {"messages": [USER]} if path == CHAT else {"prompt": "The news today:"}
    body = json.dumps({**default, "max_tokens": 2, **fields})
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.post(path, content=body, headers=JSON | sent)


def refused(response: httpx.Response) -> tuple[str, str | None]:
    """The message and the parameter of a 400."""
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["message"], error["param"]


def metric(http: httpx.Client, start: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


def idle(http: httpx.Client) -> None:
    started = time.monotonic()
    while metric(http, "vllm:num_requests_running"):
        assert time.monotonic() - started < HANG_S
        time.sleep(0.05)


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": [HALF]}, "stop.0"),
        ({"top_k": 10**30}, "top_k"),
        ({"bad_words": ["fine", f"half {HALF}"]}, "bad_words.1"),
        ({"cache_salt": HALF}, "cache_salt"),
        ({"vllm_xargs": {"a": 2**64}}, "vllm_xargs.a"),
        ({"kv_transfer_params": {"a": [{HALF: 1}]}}, "kv_transfer_params.a.0.?"),
        ({"logit_bias": {"1": float("inf")}}, "logit_bias.1"),
        ({"priority": -(10**30), "stream": True}, "priority"),
    ],
)
def test_what_cannot_be_encoded_is_named(
    http: httpx.Client, path: str, fields: Json, param: str
) -> None:
    assert refused(post(http, path, fields))[1] == param


def test_nothing_of_it_stays_in_memory(http: httpx.Client, default_service: Service) -> None:
    """A prompt of 5,000 tokens took 200 kB for good: 60 MB for these requests."""
    process = psutil.Process(default_service.process.pid)

    def send(times: int) -> int:
        for number in range(times):
            fields: Json = {"prompt": [1000 + number] * 5000}
            wrong: Json = {"stop": [HALF]} if number % 2 else {"top_k": 10**30}
            assert refused(post(http, COMPLETION, fields | wrong))
        return process.memory_info().rss

    before = send(30)
    assert send(300) - before < 20e6
    assert post(http, COMPLETION, {}).status_code == 200


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_a_deadline_is_a_504(http: httpx.Client, path: str) -> None:
    before = metric(http, "frontpage_deadline_exceeded_total")
    late = post(http, path, LONG, x_request_timeout_ms="700")
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    stream = post(http, path, LONG | {"stream": True}, x_request_timeout_ms="5000")
    first, *_, last = stream.text.strip().split("\n\n")
    assert "choices" in json.loads(first.removeprefix("data: "))
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    assert metric(http, "frontpage_deadline_exceeded_total") - before == 2
    idle(http)


def test_openais_client_raises_what_ends_a_stream(sdk: openai.OpenAI) -> None:
    chunks = sdk.completions.create(
        model=MODEL,
        prompt="The news today:",
        max_tokens=4000,
        stream=True,
        extra_body={"ignore_eos": True},
        extra_headers={"X-Request-Timeout-Ms": "5000"},
    )
    assert next(iter(chunks)).choices
    with pytest.raises(openai.APIError, match="not answered within 5000 ms") as late:
        list(chunks)
    assert late.value.code == "deadline_exceeded"


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_a_client_that_leaves_is_a_499(http: httpx.Client, path: str) -> None:
    counter = f'frontpage_requests_total{{method="POST",model="{MODEL}",route="{path}",status="499"'
    before = metric(http, counter)
    with pytest.raises(httpx.ReadTimeout):
        http.post(path, json={"messages": [USER], "prompt": "x", **LONG}, timeout=0.7)
    idle(http)
    assert metric(http, counter) - before == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("field", "constraint", "reason"),
    [
        ("regex", "foo**", "Two consecutive repetition modifiers"),
        ("regex", r"\p{L}+", "Unicode character class"),
        ("regex", "(?<=a)b", "Lookbehind is not supported"),
        ("grammar", "root ::= nothing", "grammar"),
        ("grammar", 'root ::= root "a"', "a rule that only calls itself"),
        ("grammar", "root ::= a\na ::= root", "a rule that only calls itself"),
        ("json", {"type": "objekt"}, "objekt"),
        ("json", {"type": "string", "minLength": -1}, "can't be compiled"),
        ("json", {"type": "integer", "multipleOf": 3}, "not supported by xgrammar"),
        ("json", {"type": "array", "items": {}, "uniqueItems": True}, "not supported by xgrammar"),
        ("json", {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}, "calls itself"),
    ],
)
def test_a_wrong_constraint_is_refused_with_the_reason(
    http: httpx.Client, field: str, constraint: Any, reason: str, stream: bool
) -> None:
    fields = {"structured_outputs": {field: constraint}, "max_tokens": 20, "stream": stream}
    message, param = refused(post(http, COMPLETION, fields))
    assert reason in message
    assert param == "structured_outputs"
    assert ".cc:" not in message


def test_a_right_constraint_holds(http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    fields = {"response_format": wanted, "max_tokens": 60, "temperature": 0}
    answer = post(http, CHAT, fields).json()["choices"][0]
    assert answer["finish_reason"] == "length" or "n" in json.loads(answer["message"]["content"])
    choice = {"structured_outputs": {"choice": ["north", "south"]}, "max_tokens": 20}
    assert post(http, COMPLETION, choice).json()["choices"][0]["text"] in ("north", "south")


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": "hi"}, "messages", "must be a list"),
        ({"messages": None}, "messages", "must be a list"),
        ({"messages": [1]}, "messages.0", "must be an object"),
        ({"messages": [USER, {"content": "x"}]}, "messages.1.role", "is missing"),
        ({"messages": [USER, {"role": "user", "content": 5}]}, "messages.1.content", "a string"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, *TEXT_PART),
        ({"messages": [{"role": "user", "content": [{"type": 5, "text": "x"}]}]}, *TEXT_PART),
        ({"tools": [FUNCTION]}, "tools", "does not call tools"),
        ({"tools": [FUNCTION], "tool_choice": "required"}, "tools", "does not call tools"),
        ({"chat_template": "{{ messages }}"}, "chat_template", "not available"),
        ({"thinking_token_budget": 5}, "thinking_token_budget", "not available"),
        ({"structured_outputs": 5}, "structured_outputs", "must be an object"),
        ({"structured_outputs": {}}, "structured_outputs", "none are specified"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        ({"stop": 5}, "stop", "must be"),
        ({"temperature": "warm"}, "temperature", "must be a number"),
        ({"stream_options": "usage", "stream": True}, "stream_options", "must be an object"),
    ],
)
def test_a_wrong_field_is_told_in_the_clients_words(
    http: httpx.Client, fields: Json, param: str, words: str
) -> None:
    message, named = refused(post(http, CHAT, fields))
    assert named == param
    assert words in message
    for foreign in ("--", "Param", "NoneType", "None", "dict", "parameter="):
        assert foreign not in message


def test_a_seed_is_accepted_where_it_changes_nothing(http: httpx.Client) -> None:
    """On a GPU it is accepted everywhere."""
    texts = set()
    for seed in (1, 2):
        answer = post(http, CHAT, {"seed": seed, "temperature": 0, "max_tokens": 8})
        texts.add(answer.json()["choices"][0]["message"]["content"])
    assert len(texts) == 1
    assert refused(post(http, CHAT, {"seed": "x", "temperature": 0}))[1] == "seed"


def test_one_model_can_be_looked_up(http: httpx.Client) -> None:
    [listed] = http.get("/v1/models").json()["data"]
    assert http.get(f"/v1/models/{MODEL}").json() == listed
    for unknown in ("none", "org/none", MODEL.upper()):
        missing = http.get(f"/v1/models/{unknown}")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_many_answers_are_refused_and_some_leave_room_for_others(http: httpx.Client) -> None:
    assert refused(post(http, COMPLETION, {"n": 1500}))[1] == "n"
    fields = {"n": 100, "max_tokens": 300, "ignore_eos": True}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        busy = pool.submit(post, http, COMPLETION, fields, x_request_timeout_ms="8000")
        while not metric(http, "frontpage_pending_tokens "):
            time.sleep(0.05)
        beside = http.post("/predict", json={"target": "t", "degraded": "refuse"})
        assert (beside.status_code, beside.json()["error"]["code"]) == (503, "overloaded")
        assert busy.result().status_code == 504
    assert http.post("/predict", json={"target": "t"}).status_code == 200
