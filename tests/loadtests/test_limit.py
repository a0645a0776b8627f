"""loadtests.limit without an engine: its figures, its questions, its calls of a real service."""

import argparse
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
from loadtests import asks, limit, peers
from loadtests.closed_load import ask_closed
from loadtests.machine import Setup, limit_rows
from loadtests.processes import as_flags
from loadtests.services import LoadTestError
from loadtests.speed import (
    CHAT,
    ENGINE,
    HTTP,
    OFFLINE,
    SCORING,
    Call,
    Row,
    as_record,
    as_table,
    find_ratios,
    measure,
)
from loadtests.traffic import FIXTURE
from loadtests.training_cost import QWEN3_8B
from loadtests.workload import Workload, layer_weights, prepare_model
from tests.models import SMOLLM2, qwen3_tokenizer_files
from tests.servers import serving

REDUCED = (HTTP, ENGINE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_model(SMOLLM2, "compact", 20, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def workload(model: Path) -> Workload:
    return Workload(model, FIXTURE, 20)


def parsed(monkeypatch: pytest.MonkeyPatch, *words: object) -> argparse.Namespace:
    monkeypatch.setattr("sys.argv", ["limit", *map(str, words)])
    return limit.parse()


def rate(subject: str, shape: str, stories_per_s: float, layout: str = "compact") -> Row:
    return Row(subject, shape, layout, 4, {"stories_per_s": stories_per_s, "calls": 9.0})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "http,vlm"], "no vlm among offline, engine, http, vllm, transformers"),
        (["--engine", "eager"], "not JSON"),
        (["--engine", "[1]"], "not a JSON object"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--history", "0"], "--history must be above 0"),
        (["--reduced", "--only", "http"], "leave out --only"),
        (["--layout", "long"], "invalid choice"),
    ],
)
def test_wrong_arguments(
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parsed(monkeypatch, *words)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "nowhere"], "no config.json in nowhere"),
        (["--mind", "nowhere"], "no MIND folder"),
        (["--history", "100000"], "too few for a history"),
    ],
)
def test_wrong_folders(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = parsed(monkeypatch, "--model", SMOLLM2, *words, "--out", tmp_path)
    with pytest.raises(LoadTestError, match=told):
        limit.make_setup(options)


def test_all_parts_get_the_load_format_beside_the_engine_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--model", SMOLLM2, "--out", tmp_path, "--load-format", "dummy", "--reduced")
    setup = limit.make_setup(parsed(monkeypatch, *words, "--engine", '{"max_num_seqs": 8}'))
    assert setup.engine == {"max_num_seqs": 8, "load_format": "dummy"}
    assert setup.settings().engine == setup.engine
    assert (setup.seconds, setup.ranked) == (8.0, (10,))


def test_what_is_shared_may_be_filled_up_but_the_limit_does_not_count_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--model", SMOLLM2, "--out", tmp_path, "--layout", "compact")
    setups = {
        number: limit.make_setup(
            parsed(
                monkeypatch, *words, "--prefix-multiple", number, "--out", tmp_path / f"{number}"
            )
        )
        for number in (1, 32)
    }
    plain, filled = (setups[number].workload() for number in (1, 32))
    question = next(plain.questions("a", 3))
    assert len(filled.prompts(question, "compact")[0].prefix) % 32 == 0
    assert len(plain.prompts(question, "compact")[0].prefix) % 32 != 0
    assert filled.prompts(question, "original") == plain.prompts(question, "original")
    assert filled.needed_tokens(3, "compact") == plain.needed_tokens(3, "compact")


def test_options_as_the_command_line_of_vllm_takes_them() -> None:
    options = {"enforce_eager": True, "use_tqdm_on_load": False, "block_size": 32, "seed": None}
    flags = as_flags({**options, "dtype": "bfloat16", "hf_overrides": {"a": 1}})
    assert flags[:4] == ["--enforce-eager", "--no-use-tqdm-on-load", "--block-size", "32"]
    assert flags[4:] == ["--dtype", "bfloat16", "--hf-overrides", '{"a": 1}']


def test_the_layers_of_smollm2_as_counted_by_hand() -> None:
    query_and_output, key_and_value, mlp = 2 * 576 * 576, 2 * 576 * 192, 3 * 576 * 1536
    by_hand = 30 * (query_and_output + key_and_value + mlp)
    assert layer_weights(SMOLLM2) == by_hand == 106_168_320
    assert 2 * by_hand / 1e9 == pytest.approx(0.21, abs=0.005)  # GFLOP a token


def test_a_folder_of_a_config_is_enough_to_count_the_layers(tmp_path: Path) -> None:
    Qwen3Config.from_dict(QWEN3_8B).save_pretrained(tmp_path)
    assert layer_weights(tmp_path) == pytest.approx(6.95e9, rel=0.001)


def test_the_limit_in_stories() -> None:
    about = {"token_limit_per_s": 1800.0, "needed_tokens_per_story": {"rank 50 compact": 30.0}}
    (row,) = limit_rows(about)
    assert row.key == ("limit", "rank 50", "compact")
    assert row.figures["stories_per_s"] == 60
    row = Row(HTTP, "rank 50", "compact", 2, {"stories_per_s": 45.0, "computed_tokens_per_s": 1620})
    shares = row.with_limits(1800.0, {"rank 50 compact": 60.0}).figures
    assert (shares["limit_share"], shares["computed_share"]) == (0.75, 0.9)
    assert "limit_share" not in row.with_limits(None, {}).figures


def test_figures_of_calls() -> None:
    calls = [
        Call(10, 1.0, 3.0, 1000, 600, 10, True),
        Call(10, 1.5, 4.0, 1000, 500, 4, False),
        Call(10, 3.0, 5.0, 1000, 700, 4, False),
    ]
    figures = measure(calls, cpu_seconds=0.03)
    assert figures["stories_per_s"] == 30 / 4  # from the first send to the last answer
    assert (figures["p50_ms"], figures["calls"]) == (2000, 3)
    assert (figures["tokens_per_story"], figures["computed_per_story"]) == (100, 40)
    assert figures["computed_tokens_per_s"] == 1200 / 4
    assert (figures["written_per_story"], figures["parsed_share"]) == (0.6, 1 / 3)
    assert figures["server_cpu_ms_per_story"] == 1
    assert "computed_per_story" not in measure([*calls, Call(1, 2.0, 3.0, 100)])
    assert "tokens_per_story" not in measure([*calls, Call(1, 2.0, 3.0)])


def test_table_shows_figures_and_says_why_there_are_none() -> None:
    table = as_table([rate(HTTP, "rank 50", 1234.56), Row("vllm", "", "", error="a | b\nc")])
    lines = table.splitlines()
    assert lines[2].startswith("| http | rank 50 | compact | 4 | 1,234.6 | 9 | – |")
    assert lines[3].startswith("| vllm |  |  | – |")
    assert lines[3].endswith("| a / b c |")
    assert len({line.count("|") for line in lines}) == 1


def test_ratios_are_of_rows_in_the_right_layouts() -> None:
    rows = [
        rate(HTTP, "predict", 12.0),
        rate(OFFLINE, "predict", 16.0),
        rate(OFFLINE, "predict", 1.0, "original"),
        rate(HTTP, "rank 50", 40.0),
        rate(SCORING, "rank 50", 16.0),
        rate(SCORING, "rank 50", 1.0, "original"),
        rate(CHAT, "rank 50", 2.0, "original"),
        Row(ENGINE, "rank 50", "compact", error="it failed"),
    ]
    assert find_ratios(rows, "compact") == {
        "http_predict_of_offline": 0.75,
        "http_rank_50_to_chat_one_at_a_time": 20.0,
        "http_rank_50_to_generative_scoring": 2.5,
    }


def reduced(predict: float, rank: float) -> list[Row]:
    rows = [rate(subject, shape, 100.0) for subject in REDUCED for shape in ("predict", "rank 10")]
    return [rate(HTTP, "predict", predict), rate(HTTP, "rank 10", rank), *rows[2:]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (reduced(80, 80), []),
        (reduced(79, 80), ["http_predict_of_engine is 0.79, not at least 0.8"]),
        (reduced(99, 10), ["http_rank_10_of_engine is 0.1, not at least 0.8"]),
        (reduced(99, 99)[:3], ["http_rank_10_of_engine is not measured, not at least 0.8"]),
        (
            [*reduced(99, 99), Row(ENGINE, "", "", error="failed")],
            ["engine |  | : failed"],
        ),
    ],
)
def test_a_reduced_run_fails_where_http_is_slow_or_anything_failed(
    rows: list[Row],
    told: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ratios = find_ratios(rows, "compact")
    result = {"about": {"machine": {}}, "ratios": ratios, "rows": rows}
    file = tmp_path / "new" / "limit.json"
    status = limit.report(result, argparse.Namespace(json=file, reduced=True))
    shown = capsys.readouterr()
    assert status == bool(told)
    assert shown.err.splitlines() == [f"missed: {line}" for line in told]
    assert json.loads(shown.out.splitlines()[-1])["ratios"] == ratios
    assert [Row(**row) for row in json.loads(file.read_bytes())["rows"]] == rows
    assert limit.report(result, argparse.Namespace(json=None, reduced=False)) == 0


def test_rows_of_an_earlier_run_count_if_it_was_of_the_same(tmp_path: Path) -> None:
    about: dict[str, Any] = {
        "model": "a",
        "history": 20,
        "mind": "train",
        "machine": {"device": "H200", "engine": {}, "versions": {}},
    }
    rows = [
        rate(HTTP, "predict", 5.0),
        rate("limit", "predict", 9.0),
        Row("vllm", "", "", error="x"),
    ]
    file = tmp_path / "limit.json"
    file.write_text(json.dumps({"about": about, "rows": [as_record(row) for row in rows]}))
    assert limit.read_earlier(file, about) == rows[:1]
    for other in ({"history": 3}, {"machine": {**about["machine"], "device": "H100"}}):
        with pytest.raises(
            LoadTestError, match=f"another {'device' if 'machine' in other else 'hi'}"
        ):
            limit.read_earlier(file, about | other)
    with pytest.raises(LoadTestError, match="no record of a run"):
        limit.read_earlier(tmp_path / "none.json", about)


def test_a_series_decides_and_has_readers_of_its_own(model: Path, workload: Workload) -> None:
    def first(made: Workload, series: str) -> list[Any]:
        return list(islice(made.questions(series, 10), 20))

    again = first(Workload(model, FIXTURE, 20), "rank 10")
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
    chat, completions, scoring = body(asks.chat), body(asks.complete), body(asks.score)
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
    read = asks.read_chat({"choices": [{"message": {"content": text}}], "usage": usage})
    assert read == {"prompt_tokens": 9, "cached_tokens": 0, "written": 3, "parsed": counts}


async def test_our_service_is_measured_with_the_prompts_of_the_engines(
    model: Path, workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "WARM_UP", 0.0)
    setup = Setup(str(model), str(FIXTURE), 20, "compact", 0.05, 8, {})
    app = create_app(Settings(model=model, state=tmp_path), FakeEngine())
    async with app.router.lifespan_context(app), serving(app) as url:

        def run(loads: list[peers.Load]) -> list[Row]:
            return list(peers.measure_loads(url, os.getpid(), loads, workload, 0.05))

        rows = await asyncio.to_thread(run, peers.our_loads(setup))
        (missing,) = await asyncio.to_thread(run, peers.vllm_loads(setup, workload)[-1:])
        (one,) = await ask_closed(url, asks.rank(workload.questions("rank 10", 10)), 1, 0, least=1)
    assert not [row.error for row in rows if row.error]
    assert [row.shape for row in rows][:3] == ["predict", "rank 1", "rank 10"]
    assert rows[-1].shape == "rank 100, idle"
    assert rows[-1].figures["calls"] >= peers.IDLE_CALLS
    for row in rows:
        assert row.figures["stories_per_s"] > 0
        assert row.figures["server_cpu_ms_per_story"] > 0
    assert missing.error.startswith("/generative_scoring answers 404")
    prompts = workload.prompts(next(workload.questions("rank 10", 10)), "compact")
    assert one.prompt_tokens == sum(len(prompt.tokens) for prompt in prompts)


def test_a_reduced_run_measures_what_its_rule_needs() -> None:
    setup = Setup("", "", 20, "compact", 8, 64, {}, reduced=True)
    assert [load.shape for load in peers.our_loads(setup)] == ["predict", "rank 10"]
