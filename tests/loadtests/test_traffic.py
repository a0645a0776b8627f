"""The requests that loadtests.traffic makes."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import pytest

from app.http.schemas.predictions import PredictRequest, RankRequest
from app.scoring.encoder import Encoder
from app.scoring.profile import Profile
from app.scoring.prompt import PromptBuilder
from app.scoring.wording import Reader, Story
from loadtests.traffic import EXAMPLE_MIND, Traffic


def reader_of(body: bytes) -> bytes:
    return re.split(rb'"(?:target|candidates)"', body)[0]


def bodies(traffic: Traffic, count: int = 30) -> list[bytes]:
    return [
        make().body for _ in range(count) for make in (traffic.predict, traffic.rank, traffic.chat)
    ]


def test_the_seed_decides_and_a_part_is_other_requests_of_the_same_readers() -> None:
    first = bodies(Traffic(seed=3))
    assert first == bodies(Traffic(seed=3))
    assert not set(first) & set(bodies(Traffic(seed=4)))
    one, two = Traffic(seed=3, part=1), Traffic(seed=3, part=2)
    assert [visitor.fields for visitor in one.visitors] == [v.fields for v in two.visitors]
    assert bodies(one) != bodies(two)


def test_readers_follow_zipf_and_have_histories_of_their_own() -> None:
    traffic, count = Traffic(readers=1000), 20_000
    visits = Counter(reader_of(traffic.predict().body) for _ in range(count))
    times = [number for _, number in visits.most_common()]
    harmonic = sum(1 / place for place in range(1, 1001))
    for place in (1, 3, 10, 30):
        assert times[place - 1] == pytest.approx(count / harmonic / place, rel=0.2)
    assert len(visits) > 900
    lengths = sorted(
        len(json.loads(b"{" + visitor.fields[:-1] + b"}")["history"])
        for visitor in traffic.visitors
    )
    assert median(lengths) == pytest.approx(18, abs=3)
    assert lengths[0] == 0
    assert lengths[-1] == 100


def test_predict_and_rank_are_what_the_service_takes() -> None:
    traffic = Traffic(models=["news"])
    for _ in range(200):
        one = PredictRequest.model_validate_json(traffic.predict().body)
        assert one.model == "news"
        assert one.target.id
    sizes = []
    for _ in range(500):
        request = traffic.rank()
        sent = RankRequest.model_validate_json(request.body)
        assert len({story.title for story in sent.candidates}) == request.stories
        sizes.append(request.stories)
    assert min(sizes) == 5
    assert 200 < max(sizes) <= 300
    assert median(sizes) == pytest.approx(25, abs=4)


def test_chat_is_the_original_projects_request(smollm2: Encoder) -> None:
    traffic = Traffic(readers=1)
    lists = json.loads(b"{" + traffic.visitors[0].fields[:-1] + b"}")
    reader = Reader(
        *([Story(title) for title in lists[name]] for name in ("history", "liked", "disliked"))
    )
    builder = PromptBuilder(smollm2, Profile())
    for _ in range(20):
        body = json.loads(traffic.chat().body)
        target = re.search(r'\nTarget news: "(.*)"\n', body["messages"][1]["content"])
        assert target
        text = "".join(
            f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
            for message in body["messages"]
        )
        assert text + "<|im_start|>assistant\n" == builder.text(reader, Story(target[1]))
        assert (body["temperature"], body["max_tokens"]) == (0.01, 10)
        assert "model" not in body


def test_each_reader_keeps_one_of_several_models() -> None:
    traffic = Traffic(readers=30, models=["a", "b", "c"])
    seen = defaultdict(set)
    for _ in range(2000):
        body = json.loads(traffic.rank().body)
        seen[tuple(body["history"]), tuple(body["liked"])].add(body["model"])
    assert all(len(models) == 1 for models in seen.values())
    assert set.union(*seen.values()) == {"a", "b", "c"}


def test_titles_come_from_any_mind_folder(tmp_path: Path) -> None:
    rows = [f"N{n}\tsports\tx\tTitle number {n}\t\t\t[]\t[]\n" for n in range(1200)]
    (tmp_path / "news.tsv").write_text("".join(rows))
    sent = RankRequest.model_validate_json(Traffic(tmp_path).rank().body)
    for story in (*sent.candidates, *sent.history):
        assert re.fullmatch(r"Title number \d+", story.title or "")
    (tmp_path / "news.tsv").write_text("".join(rows[:10]))
    with pytest.raises(ValueError, match="10 titles; at least 18"):
        Traffic(tmp_path)
    with pytest.raises(ValueError, match=r"no MIND folder: news\.tsv"):
        Traffic(EXAMPLE_MIND / "none")
