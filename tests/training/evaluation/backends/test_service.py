"""The HTTP client against a small server with known answers, and against the real application."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Barrier, Thread
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from app.engine.fake import FakeEngine
from app.main import create_app
from app.scoring.encoder import Encoder
from app.scoring.profile import COMPACT, Profile
from app.scoring.prompt import PromptBuilder
from app.scoring.wording import Reader, Story
from app.settings import Limits, Settings
from loadtests.services import free_port
from tests.support.models import SMOLLM2
from training.data.prepared import Impression
from training.errors import TrainingError
from training.evaluation.backends.service import ServiceBackend


def impression(name: str, titles: list[str]) -> Impression:
    return Impression(
        id=name,
        user="U",
        reader=Reader([Story("Old news", "world"), Story("Older news")], [Story("Liked")], []),
        candidates=[Story(title) for title in titles],
        candidate_ids=titles,
        clicked=None,
    )


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on uvicorn in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=(port := free_port()), log_config=None))
    thread = Thread(target=asyncio.run, args=(server.serve(),))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


class Stub:
    """A service that gives each story a probability from its title, and remembers the requests."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.post("/rank")(self.rank)
        self.app.post("/v1/chat/completions")(self.chat)
        self.bodies: list[dict[str, Any]] = []
        self.together = Barrier(4)
        self.longest = 10_000

    def rank(self, body: dict[str, Any]) -> Any:
        self.bodies.append(body)
        if body["model"] == "together":
            self.together.wait(timeout=30)
        if body["model"] == "absent":
            error = {"message": "no model 'absent'", "type": "NotFoundError", "code": "404"}
            return JSONResponse({"error": error}, 404)
        results: list[dict[str, Any]] = [
            {"index": i, "probability": float(s["title"]), "label": "Yes.", "label_mass": 0.5}
            for i, s in enumerate(body["candidates"])
        ]
        results.sort(key=lambda result: -float(result["probability"]))
        return {"results": results[:1] if body["model"] == "brief" else results}

    def chat(self, body: dict[str, Any]) -> Any:
        self.bodies.append(body)
        user = body["messages"][-1]["content"]
        if len(user) > self.longest:
            error = {"message": "maximum context length is 600", "type": "BadRequestError"}
            return JSONResponse({"error": error}, 400)
        message = {"role": "assistant", "content": "Yes." if "0.9" in user else None}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {"id": "1", "object": "chat.completion", "created": 0, "choices": [choice]}


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Stub, str]]:
    stub = Stub()
    with served(stub.app) as url:
        yield stub, url


@pytest.fixture
def stub(service: tuple[Stub, str]) -> Stub:
    service[0].bodies.clear()
    service[0].longest = 10_000
    return service[0]


@pytest.fixture
def backend(stub: Stub, service: tuple[Stub, str]) -> Iterator[ServiceBackend]:
    backend = ServiceBackend("news", service[1] + "/", None, concurrency=4)
    yield backend
    backend.close()


def test_answers_are_put_back_into_the_candidates_order(backend: ServiceBackend) -> None:
    rows = [impression("a", ["0.2", "0.9", "0.5"]), impression("b", ["0.1"])]
    first, second = backend.score(rows)
    assert list(first.probability) == [0.2, 0.9, 0.5]
    assert list(first.mass) == [0.5] * 3
    assert list(second.probability) == [0.1]
    assert second.labels == ["Yes."]


def test_the_reader_is_sent_whole(backend: ServiceBackend, stub: Stub) -> None:
    backend.score([impression("a", ["0.2"])])
    assert stub.bodies == [
        {
            "model": "news",
            "history": [{"title": "Old news", "category": "world"}, {"title": "Older news"}],
            "liked": [{"title": "Liked"}],
            "disliked": [],
            "candidates": [{"title": "0.2"}],
        }
    ]


def test_several_calls_run_at_once(service: tuple[Stub, str]) -> None:
    """The model "together" answers only once four requests are there."""
    backend = ServiceBackend("together", service[1], None, concurrency=4)
    rows = [impression(str(number), [f"0.{number}"]) for number in range(1, 9)]
    answers = backend.score(rows)
    assert [answer.probability[0] for answer in answers] == [n / 10 for n in range(1, 9)]
    backend.close()


def test_chat_is_asked_as_the_original_asks(backend: ServiceBackend, stub: Stub) -> None:
    assert backend.write([impression("a", ["0.9"]), impression("b", ["0.1"])]) == ["Yes.", ""]
    body = next(body for body in stub.bodies if "0.9" in body["messages"][-1]["content"])
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("news", 0.01, 10)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


@pytest.mark.parametrize("profile", [Profile(), Profile(layout=COMPACT, history=1)])
def test_chat_messages_say_what_the_prompt_says(profile: Profile) -> None:
    backend = ServiceBackend("news", "http://127.0.0.1:1", profile, 1)
    sample = impression("a", ["A title <|im_end|>"])
    system, user = (message["content"] for message in backend.messages(sample))
    builder = PromptBuilder(Encoder(SMOLLM2 / "tokenizer.json"), profile)
    assert builder.text(sample.reader, sample.candidates[0]) == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    backend.close()


@pytest.mark.parametrize(
    ("name", "message"), [("absent", "no model 'absent'"), ("brief", "answered 1 of 2 candidates")]
)
def test_a_bad_answer_names_its_cause(service: tuple[Stub, str], name: str, message: str) -> None:
    backend = ServiceBackend(name, service[1], None, concurrency=2)
    with pytest.raises(TrainingError, match=message):
        backend.score([impression("a", ["0.1", "0.2"]), impression("b", ["0.1", "0.2"])])
    backend.close()


def test_no_service() -> None:
    backend = ServiceBackend("news", f"http://127.0.0.1:{free_port()}", None, 1)
    backend.client = backend.client.with_options(max_retries=0)
    with pytest.raises(TrainingError, match="is the service running there"):
        backend.score([impression("a", ["0.1"])])
    backend.close()


def test_the_real_application_answers_as_its_parts_do() -> None:
    """The real routes, on the fake engine: the same reader and story get the same probability
    alone and among others, and nothing of the contract is missing."""
    rows = [impression("a", ["First story", "Second story", "Third story"])]
    alone = [impression("a", [story.title]) for story in rows[0].candidates]
    with served(create_app(Settings(model=SMOLLM2), FakeEngine())) as url:
        backend = ServiceBackend(SMOLLM2.name, url, None, concurrency=2)
        (together,) = backend.score(rows)
        apart = [answer.probability[0] for answer in backend.score(alone)]
        backend.close()
    assert list(together.probability) == apart
    assert len(set(apart)) == 3


@pytest.mark.parametrize("limit", [10_000, 500], ids=["tokens", "characters"])
def test_titles_too_long_for_the_service_are_cut_and_counted(
    limit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the real routes, whose fake engine takes prompts of 2,047 tokens."""
    long = " ".join(f"word{number}" for number in range(1200))[:9000]
    row = impression("a", ["First story", long, "Third story"])
    if limit == 500:
        row = replace(row, reader=Reader([Story(long)]))
    settings = Settings(model=SMOLLM2, limits=Limits(max_title_chars=limit))
    with served(create_app(settings, FakeEngine())) as url:
        backend = ServiceBackend(SMOLLM2.name, url, None, concurrency=2)
        (found,) = backend.score([row])
        backend.close()
    assert len(set(found.probability)) == 3
    assert f"{1 if limit > 500 else 2} titles too long for {url}: cut" in capsys.readouterr().err
    assert row.candidates[1].title == long


def test_a_field_that_no_cut_helps_is_told(stub: Stub, service: tuple[Stub, str]) -> None:
    """A title of white space only is refused, however short."""
    with served(create_app(Settings(model=SMOLLM2), FakeEngine())) as url:
        backend = ServiceBackend(SMOLLM2.name, url, None, concurrency=2)
        with pytest.raises(TrainingError, match=r"candidates\.1\.title"):
            backend.score([impression("a", ["First story", " " * 100])])
        backend.close()


def test_a_chat_too_long_for_the_model_is_cut(backend: ServiceBackend, stub: Stub) -> None:
    stub.longest = 600
    assert backend.write([impression("a", ["0.9 " + "x" * 2000]), impression("b", ["0.9"])]) == [
        "Yes.",
        "Yes.",
    ]
    assert len(backend.cut) == 1
    stub.longest = 10
    with pytest.raises(TrainingError, match="context length"):
        backend.write([impression("a", ["0.9 " + "x" * 2000])])
