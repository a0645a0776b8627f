"""loadtests.replicas without Ray: which outcomes are right, and what the command refuses."""

import pytest

from loadtests.replicas.command import is_right, parse_options
from loadtests.replicas.outcomes import (
    HANG_AFTER_S,
    PROBABILITY_TOLERANCE,
    Outcome,
    classify,
    tally,
    truth_of,
    with_reader,
)
from loadtests.traffic import Traffic

QUIET = Outcome(0, 200, 0.0, 1.0, "news", (0.25, 0.75))
TRUTH = truth_of([QUIET, Outcome(1, 503, 0.0, 1.0, code="overloaded")])


def answer(*probabilities: float, number: int = 0, model: str = "news") -> Outcome:
    return Outcome(number, 200, 0.0, 1.0, model, probabilities)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (answer(0.25, 0.75 + PROBABILITY_TOLERANCE / 2), "right"),
        (answer(0.25, 0.75 + PROBABILITY_TOLERANCE * 2), "wrong"),
        (answer(0.25), "wrong"),
        (answer(0.25, 0.75, number=1), "unknown"),
        (answer(0.25, 0.75, model="other"), "unknown"),
        (Outcome(0, 503, 0.0, 1.0, code="overloaded"), "refused"),
        (Outcome(0, 503, 0.0, 1.0, detail="a proxy's page"), "failed"),
        (Outcome(0, 500, 0.0, 1.0, code="internal_error"), "failed"),
        (Outcome(0, 0, 0.0, 1.0, detail="ServerDisconnectedError"), "failed"),
        (Outcome(0, 0, 5.0, 5.0 + HANG_AFTER_S, detail="TimeoutError"), "hangs"),
    ],
)
def test_outcomes_are_told_apart(outcome: Outcome, expected: str) -> None:
    assert classify(outcome, TRUTH) == expected
    counted = tally([outcome, QUIET], TRUTH)
    assert sum(counted.values()) == 2
    assert counted[expected] == (2 if expected == "right" else 1)
    assert is_right(dict(counted)) == (expected in ("right", "refused"))


def test_a_reader_keeps_one_id() -> None:
    alone, many = Traffic(readers=1), Traffic(readers=50)
    assert len({with_reader(alone.predict()).reader for _ in range(10)}) == 1
    assert len({with_reader(many.predict()).reader for _ in range(100)}) > 10


def test_the_command_reads_its_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replicas", "--parts", "two,kill", "--at-once", "4", "--output", "here"]
    monkeypatch.setattr("sys.argv", words)
    options = parse_options()
    assert options.parts == ["two", "kill"]
    assert (options.plan.at_once, str(options.plan.folder)) == (4, "here")
    monkeypatch.setattr("sys.argv", ["replicas"])
    with pytest.raises(SystemExit):
        parse_options()
    assert "the part `adapter` needs one" in capsys.readouterr().err
