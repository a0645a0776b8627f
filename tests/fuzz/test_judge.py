"""The fuzz notices what is wrong, and only that."""

import httpx
import pytest

from tests.fuzz.judge import complaint
from tests.fuzz.mutations import make_request


def error(status: int, message: str, code: str | int | None) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "code": code}})


def stream(*events: str) -> httpx.Response:
    text = "".join(f"data: {event}\n\n" for event in events)
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json={"probability": 0.5}),
        error(422, "title: too long", None),
        error(503, "busy", "overloaded"),
        error(504, "late", "deadline_exceeded"),
        stream('{"choices": []}', "[DONE]"),
        stream('{"error": {"message": "late", "code": "deadline_exceeded"}}'),
        stream('{"error": {"message": "not so", "code": 400}}'),
    ],
)
def test_what_a_client_may_get_is_no_fault(answer: httpx.Response) -> None:
    assert complaint(answer) == ""


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (error(500, "internal error", None), "internal error"),
        (error(503, "the engine has died", "engine_unavailable"), "the engine has died"),
        (error(400, "", None), "an error without text"),
        (httpx.Response(400, text="Invalid HTTP request received."), "JSONDecodeError"),
        (httpx.Response(404, json={"detail": "Not Found"}), "IndexError"),
        (httpx.Response(200, text='{"probability": NaN}'), "NaN is not JSON"),
        (stream('{"error": {"message": "oh", "code": 500}}', "[DONE]"), "oh"),
    ],
)
def test_what_no_client_should_get_is_named(answer: httpx.Response, wrong: str) -> None:
    assert wrong in complaint(answer)


def test_a_number_makes_the_same_request_again() -> None:
    made = [make_request(1, number) for number in range(300)]
    assert [one.line for one in made] == [make_request(1, n).line for n in range(300)]
    assert {one.path.split("/")[1] for one in made} >= {"v1", "predict", "rank", "feedback"}
    assert len({one.line for one in made}) > 250
    assert any(b"\\ud83d" in (one.body or b"") for one in made)
