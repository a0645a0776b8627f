"""loadtests.limit without an engine: its options, its rule, and what it shows of earlier runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.limit import command
from loadtests.limit.command import REQUIRED_OF_ALSO, REQUIRED_RATIOS
from loadtests.limit.options import REDUCED_PARTS, Options, make_setup, parse_options
from loadtests.limit.processes import as_flags
from loadtests.limit.record import Record, read_earlier
from loadtests.limit.speed import ALSO, ENGINE, HTTP, Row, as_record, find_ratios
from loadtests.services import LoadTestError
from tests.support.limit_rows import rate
from tests.support.models import SMOLLM2


def parsed(monkeypatch: pytest.MonkeyPatch, *words: object) -> Options:
    monkeypatch.setattr("sys.argv", ["limit", *map(str, words)])
    return parse_options()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--only", "http,vlm"],
            "no vlm among offline, engine, http, shortlist, vllm",
        ),
        (["--engine", "eager"], "not JSON"),
        (["--engine", "[1]"], "not a JSON object"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--history", "0"], "--history must be above 0"),
        (["--reduced", "--only", "http"], "leave out --only"),
        (["--layout", "long"], "invalid choice"),
        (["--shortlist", "20,all"], "'20,all' is no list of numbers above 0"),
        (["--shortlist", "0"], "'0' is no list of numbers above 0"),
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
        make_setup(options)


def test_all_parts_get_the_load_format_beside_the_engine_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--model", SMOLLM2, "--out", tmp_path, "--load-format", "dummy", "--reduced")
    setup = make_setup(parsed(monkeypatch, *words, "--engine", '{"max_num_seqs": 8}'))
    assert setup.engine == {"max_num_seqs": 8, "load_format": "dummy"}
    assert setup.settings().engine == setup.engine
    assert (setup.seconds, setup.rank_sizes) == (8.0, (10,))


def test_what_is_shared_may_be_filled_up_but_the_limit_does_not_count_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--model", SMOLLM2, "--out", tmp_path, "--layout", "compact")
    setups = {
        number: make_setup(
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


def reduced(predict: float, rank: float) -> list[Row]:
    rows = [
        rate(subject, shape, 100.0)
        for subject in (HTTP, ENGINE)
        for shape in ("predict", "rank 10")
    ]
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
    capsys: pytest.CaptureFixture[str],
) -> None:
    ratios = find_ratios(rows, "compact")
    record = Record({"machine": {}}, ratios, rows)
    status = command.report(record, REQUIRED_RATIOS)
    shown = capsys.readouterr()
    assert status == bool(told)
    assert shown.err.splitlines() == [f"missed: {line}" for line in told]
    assert json.loads(shown.out.splitlines()[-1])["ratios"] == ratios
    assert command.report(record, None) == 0


@pytest.mark.parametrize("also", [99.0, 101.0])
def test_another_model_must_not_be_slower(also: float) -> None:
    rows = [*reduced(99, 99), rate(ALSO, "rank 10", also)]
    ratios = find_ratios(rows, "compact")
    assert ratios["also_rank_10_to_engine"] == also / 100
    record = Record({"machine": {}}, ratios, rows)
    assert command.report(record, REQUIRED_RATIOS | REQUIRED_OF_ALSO) == (also < 100)


def test_what_is_measured_is_written_before_the_next_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {name: rate(name, "predict", 80.0) for name in REDUCED_PARTS}

    def measure_part(name: str, *_: Any) -> Iterator[Row]:
        if name == REDUCED_PARTS[1]:
            raise KeyboardInterrupt
        yield rows[name]

    monkeypatch.setattr(command, "measure_part", measure_part)
    file = tmp_path / "new" / "limit.json"
    words = ("--reduced", "--model", SMOLLM2, "--out", tmp_path, "--json", file)
    options = parsed(monkeypatch, *words)
    with pytest.raises(KeyboardInterrupt):
        command.measure(make_setup(options), options)
    assert [Row(**row) for row in json.loads(file.read_bytes())["rows"]] == [rows[REDUCED_PARTS[0]]]


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
    assert read_earlier(file, about) == rows[:1]
    for other in ({"history": 3}, {"machine": {**about["machine"], "device": "H100"}}):
        with pytest.raises(
            LoadTestError, match=f"{'device' if 'machine' in other else 'history'} differs"
        ):
            read_earlier(file, about | other)
    with pytest.raises(LoadTestError, match="not the record of a run"):
        read_earlier(tmp_path / "none.json", about)
