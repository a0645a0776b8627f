"""Ray Serve with two replicas on the real vLLM and a tiny random model: in short what
`python -m loadtests.replicas` does at length."""

import time
from collections.abc import Iterator

import httpx
import pytest

from loadtests.replicas.deployment import Plan, Running, replicas
from loadtests.replicas.outcomes import tally, truth_of
from loadtests.replicas.parts import wait_until
from tests.support.fake_replicas import counted
from tests.support.models import make_lora, make_tiny_qwen3

CHAT = {"messages": [{"role": "user", "content": "Count for ever."}], "stream": True}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("replicas")
    base = make_tiny_qwen3(folder / "base")
    adapter = make_lora(base, folder / "adapters" / "one", 1)
    return Plan(base, adapter, folder, seconds=12, at_once=4, readers=20, pool=12)


@pytest.fixture(scope="module")
def running(plan: Plan) -> Iterator[Running]:
    root = str(plan.folder / "adapters")
    with replicas(plan, "real", 2, ADAPTER_ROOT=root, MAX_ADAPTERS="1") as found:
        yield found


def test_chat_streams_through_ray_and_ends_when_its_client_leaves(running: Running) -> None:
    headers = {"Authorization": f"Bearer {running.key}"}
    with httpx.Client(base_url=running.cluster.url, headers=headers, timeout=30) as client:
        with client.stream("POST", "/v1/chat/completions", json=CHAT | {"max_tokens": 5}) as short:
            lines = [line for line in short.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        assert len(lines) > 5
        long = CHAT | {"max_tokens": 1900, "ignore_eos": True}
        with client.stream("POST", "/v1/chat/completions", json=long) as left:
            chunks = left.iter_lines()  # kept: where it goes, the client leaves
            next(chunks)
            assert sum(counted("frontpage_pending_requests")) == 1
    wait_until(lambda: sum(counted("frontpage_pending_requests")) == 0)
    assert sum(counted("vllm:generation_tokens_total")) < 1900  # it was cut short


def test_an_adapter_reaches_all_replicas_under_load(running: Running, plan: Plan) -> None:
    requests = plan.requests(plan.pool)
    truth = truth_of(running.quiet(requests))

    def declare() -> None:
        aliases = {"default": {"weights": {"rolled": 1}}}
        running.options["user_config"] = {"adapters": {"rolled": "one"}, "aliases": aliases}
        time.sleep(1)
        running.deploy()
        running.cluster.wait_until_running(2)
        time.sleep(1)

    outcomes = running.load(requests, 4, declare)
    after = running.quiet(requests)
    assert {one.model for one in after} == {"rolled"}
    found = tally(outcomes, truth | truth_of(after))
    assert found["right"] == len(outcomes) > 20, found
    assert {one.model for one in outcomes} == {"base", "rolled"}


def test_a_dead_engine_costs_clean_503s_and_its_replica(running: Running, plan: Plan) -> None:
    requests = plan.requests(plan.pool)
    truth = truth_of(running.quiet(requests))
    victim = running.cluster.replicas()[0]

    def kill() -> None:
        time.sleep(1)
        victim.engine().kill()
        wait_until(lambda: victim.id not in [one.id for one in running.cluster.replicas()])
        time.sleep(1)

    outcomes = running.load(requests, 4, kill)
    found = tally(outcomes, truth)
    assert found["right"] + found["refused"] == len(outcomes), found
    assert found["right"] > 20
    last = [one for one in outcomes if one.sent > max(o.sent for o in outcomes) - 0.5]
    assert {one.status for one in last} == {200}, "the other replica answers"
