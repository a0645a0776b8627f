"""What loadtests.limit asks: its questions, its prepared models, its calls of a real service."""

import asyncio
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen3Config

from app.engine.fake import FakeEngine
from app.main import create_app
from app.scoring.profile import COMPACT, load_profile
from app.settings import Settings
from loadtests.limit import peers, requests
from loadtests.limit.closed_load import send_closed
from loadtests.limit.machine import Setup
from loadtests.limit.speed import Row
from loadtests.limit.workload import Workload, prepare_model
from loadtests.services import LoadTestError
from loadtests.traffic import EXAMPLE_MIND
from loadtests.training.cost import QWEN3_8B
from tests.support.models import SMOLLM2, qwen3_tokenizer_files
from tests.support.servers import serving


def test_a_series_decides_and_has_readers_of_its_own(model: Path, workload: Workload) -> None:
    def first(made: Workload, series: str) -> list[Any]:
        return list(islice(made.questions(series, 10), 20))

    again = first(Workload(model, EXAMPLE_MIND, 20), "rank 10")
    assert first(workload, "rank 10") == again
    histories = [tuple(question.reader.history) for question in again]
    others = [tuple(one.reader.history) for one in first(workload, "rank 10 warm-up")]
    assert len({history[:2] for history in histories + others}) == 40
    assert all(len(set(question.targets)) == 10 for question in again)


def test_needed_tokens_share_the_reader_and_leave_out_what_all_share(workload: Workload) -> None:
    prompts = [
        workload.prompts(question, "compact")[0]
        for question in islice(workload.questions("needed", 1), 32)
    ]
    whole = sum(len(prompt.tokens) for prompt in prompts) / len(prompts)
    head = len(workload.builders["compact"].encoder.template(f"{COMPACT.head}Clicked:\n"))
    assert workload.needed_tokens(1, "compact") == pytest.approx(whole - head, abs=1)
    assert workload.needed_tokens(50, "compact") < 40
    assert workload.needed_tokens(50, "original") > workload.needed_tokens(50, "compact") + 10


def test_a_prepared_model_has_this_runs_profile_and_a_chat_template(tmp_path: Path) -> None:
    for _ in range(2):  # again over the first
        made = prepare_model(SMOLLM2, "compact", 7, tmp_path / "smollm2")
    assert load_profile(made).layout == COMPACT
    assert load_profile(made).history == 7
    template = (made / "chat_template.jinja").read_bytes()
    assert template == (SMOLLM2 / "chat_template.jinja").read_bytes()
    bare = tmp_path / "bare"
    Qwen3Config.from_dict(QWEN3_8B).save_pretrained(bare)
    with pytest.raises(LoadTestError, match=r"no tokenizer\.json"):
        prepare_model(bare, "compact", 7, tmp_path / "made")
    (bare / "tokenizer.json").symlink_to(qwen3_tokenizer_files() / "tokenizer.json")
    made = prepare_model(bare, "compact", 7, tmp_path / "made")
    assert "<|im_start|>" in (made / "chat_template.jinja").read_text()
    assert not (bare / "chat_template.jinja").exists()


def test_peers_are_asked_the_same_prompts(workload: Workload) -> None:
    question = next(workload.questions("rank 10", 10))
    prompts = workload.prompts(question, "original")

    def body(made: Any) -> dict[str, Any]:
        return dict(json.loads(next(made(iter([question]), workload, "original")).body))

    encoder = workload.builders["original"].encoder
    chat, completions, scoring = body(requests.chat), body(requests.complete), body(requests.score)
    turns = [f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in chat["messages"]]
    assert encoder.text(prompts[0].tokens) == "".join(turns) + "<|im_start|>assistant\n"
    assert (chat["max_tokens"], chat["temperature"]) == (10, 0.01)
    assert completions["prompt"] == [prompt.tokens for prompt in prompts]
    assert [scoring["query"] + item for item in scoring["items"]] == completions["prompt"]
    assert scoring["label_token_ids"] == [encoder.label("Yes."), encoder.label("No.")]


@pytest.mark.parametrize(
    ("text", "counts"), [("Yes.", True), (" no", True), ("Maybe", False), (None, False)]
)
def test_chat_answers_are_parsed(text: str | None, counts: bool) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None}
    read = requests.read_chat({"choices": [{"message": {"content": text}}], "usage": usage})
    assert read == {"prompt_tokens": 9, "cached_tokens": 0, "written": 3, "parsed": counts}


async def test_our_service_is_measured_with_the_prompts_of_the_engines(
    model: Path, workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "MIN_WARM_UP_S", 0.0)
    setup = Setup(str(model), str(EXAMPLE_MIND), 20, "compact", 0.05, 8, {})
    app = create_app(Settings(model=model, state=tmp_path), FakeEngine())
    async with app.router.lifespan_context(app), serving(app) as url:

        def run(loads: list[peers.Load]) -> list[Row]:
            return list(peers.measure_loads(url, os.getpid(), loads, workload, 0.05))

        rows = await asyncio.to_thread(run, peers.our_loads(setup))
        (missing,) = await asyncio.to_thread(run, peers.vllm_loads(setup, workload)[-1:])
        (one,) = await send_closed(
            url, requests.rank(workload.questions("rank 10", 10)), 1, 0, min_calls=1
        )
    assert not [row.error for row in rows if row.error]
    assert [row.shape for row in rows][:3] == ["predict", "rank 1", "rank 10"]
    assert rows[-1].shape == "rank 100, idle"
    assert rows[-1].figures["calls"] >= peers.MIN_IDLE_CALLS
    for row in rows:
        assert row.figures["stories_per_s"] > 0
        assert row.figures["server_cpu_ms_per_story"] > 0
    assert missing.error.startswith("/generative_scoring answers 404")
    prompts = workload.prompts(next(workload.questions("rank 10", 10)), "compact")
    assert one.prompt_tokens == sum(len(prompt.tokens) for prompt in prompts)


def test_a_reduced_run_measures_what_its_rule_needs() -> None:
    setup = Setup("", "", 20, "compact", 8, 64, {}, reduced=True)
    assert [load.shape for load in peers.our_loads(setup)] == ["predict", "rank 10"]
