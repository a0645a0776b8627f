"""What loadtests.limit makes of its measurements: figures, shares of the limit, ratios, a table."""

from pathlib import Path

import pytest
from transformers import Qwen3Config

from loadtests.limit.machine import limit_rows
from loadtests.limit.speed import (
    CHAT,
    ENGINE,
    HTTP,
    OFFLINE,
    SCORING,
    Call,
    Row,
    as_table,
    find_ratios,
    measure,
)
from loadtests.limit.workload import layer_weights
from loadtests.training.cost import QWEN3_8B
from tests.support.limit_rows import rate
from tests.support.models import SMOLLM2


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
