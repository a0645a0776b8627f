"""Lines that long work prints."""

import time
from collections.abc import Callable

import pytest

from tests.support.waiting import HANG_S
from training import progress
from training.progress import Progress, describe_duration, describe_rate


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_S", 0.01)
    monkeypatch.setattr(progress, "EVERY_S", 0.02)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.perf_counter() + HANG_S
    while not condition():
        assert time.perf_counter() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("per_second", "text"), [(250.04, "250.0/s"), (1.0, "1.0/s"), (0.04, "25.0 s each")]
)
def test_a_rate_is_never_0(per_second: float, text: str) -> None:
    assert describe_rate(per_second) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (110, "2 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert describe_duration(seconds) == text


def test_work_that_lasts_says_again_and_again_how_far_it_is(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ""

    def count(line: str) -> int:
        nonlocal text
        text += capsys.readouterr().err
        return text.count(line)

    with progress.progress("scores", 4, "tokens") as work:
        wait_for(lambda: count("scores: 0 of 4 tokens after 0 s") > 0)
        work.advance(1)
        wait_for(lambda: count("scores: 1 of 4 tokens, ") > 1)
    assert " left\n" in text


def test_of_work_in_work_only_the_inner_one_speaks(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.progress("training"), progress.progress("validation"):
        text = ""

        def count(line: str) -> int:
            nonlocal text
            text += capsys.readouterr().err
            return text.count(line)

        wait_for(lambda: count("validation: at work") > 2)
    assert "training" not in text


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("loading"):
        pass
    assert capsys.readouterr().err == ""


def test_work_of_unknown_size() -> None:
    assert Progress("loading").line() == "loading: at work for 0 s"
