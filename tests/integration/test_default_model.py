"""The default model, as `make serve` has it: SmolLM2-135M-Instruct, the shipped adapter merged."""

import json
import time
from itertools import product
from typing import Any

import httpx
import openai
import pytest

from app.scoring.profile import load_profile
from app.scoring.wording import Reader, Story, chat_messages
from tests.integration.conftest import MODEL, titles
from tests.support.models import DEFAULT_MODEL, ROOT
from tests.support.servers import Service
from tests.support.waiting import HANG_S

PROMPT = """\
<|im_start|>system
Will the reader click the last story? Answer Yes. or No.<|im_end|>
<|im_start|>user
Liked:
Apple
Google
Passed over:
weather
sports
Clicked:
Tesla
SpaceX
<|im_end|>
<|im_start|>assistant
Next:
Microsoft
"""
"""As the shipped profile words it for READER and the story Microsoft."""
READER = {
    "history": ["Tesla", "SpaceX"],
    "liked": ["Apple", "Google"],
    "disliked": ["weather", "sports"],
}


def test_start_says_what_it_loads_and_for_how_long(default_service: Service) -> None:
    log = default_service.log.read_text()
    assert f"loaded model {MODEL} from {DEFAULT_MODEL.relative_to(ROOT)} in " in log
    assert f"loaded first score of {MODEL} in " in log
    assert f"ready: {default_service.url}" in log


def test_predict_agrees_with_transformers_in_float32(http: httpx.Client) -> None:
    """The same prompt through another implementation, with the head in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEFAULT_MODEL)
    turn = PROMPT.index("<|im_start|>user\n") + len("<|im_start|>user\n")
    own = PROMPT.index("Microsoft")
    parts = (PROMPT[:turn], PROMPT[turn:own], PROMPT[own:])
    head, shared, rest = (tokenizer(part).input_ids for part in parts)
    filler = tokenizer("\n").input_ids * (-(len(head) + len(shared)) % 32)
    ids = torch.tensor([[*head, *filler, *shared, *rest]])
    model = AutoModelForCausalLM.from_pretrained(DEFAULT_MODEL, dtype=torch.float32)
    with torch.no_grad():
        logs = model(ids).logits[0, -1].log_softmax(-1)
    yes, no = (tokenizer.encode(word)[0] for word in ("Yes", "No"))
    calibration = json.loads((DEFAULT_MODEL / "profile.json").read_text())["calibration"]
    log_odds = calibration["slope"] * (logs[yes] - logs[no]) + calibration["intercept"]
    expected = torch.sigmoid(log_odds).item()
    body = http.post("/predict", json={**READER, "target": "Microsoft"}).json()
    assert body["usage"]["prompt_tokens"] == ids.shape[1]
    assert body["probability"] == pytest.approx(expected, rel=0.1)  # bfloat16 layers
    mass = (logs[yes].exp() + logs[no].exp()).item()
    assert body["label_mass"] == pytest.approx(mass, abs=0.05)


TOPICS = {
    "sports": (
        "Quarterback leads late comeback to win the playoff game",
        "Coach fired after losing season",
        "Star pitcher signs record contract",
        "Underdogs reach the basketball final",
        "Veteran goalkeeper announces retirement",
        "Rookie breaks the touchdown record",
    ),
    "foodanddrink": (
        "30 easy slow cooker dinners for busy weeknights",
        "The best apple pie recipe you will ever bake",
        "Chefs share their Thanksgiving side dishes",
        "15 cozy soups to make this fall",
        "How to cook a juicy turkey every time",
        "Cheap pasta recipes everyone loves",
    ),
    "news": (
        "Senate votes on inquiry rules",
        "Governor signs new gun bill into law",
        "Candidates clash over health care in debate",
        "President meets foreign leaders at the White House",
        "House committee subpoenas former adviser",
        "Poll shows tight race in swing states",
    ),
    "autos": (
        "New pickup truck: first drive review",
        "Classic muscle cars that are worth a fortune",
        "Recall affects thousands of SUVs",
        "Electric car startup reveals its new model",
        "The most reliable used cars to buy",
        "Rare sports car sells at auction",
    ),
}
"""Invented titles: four that a reader clicked, and two to rank."""


@pytest.mark.parametrize("with_category", [True, False])
def test_readers_get_what_they_read(http: httpx.Client, with_category: bool) -> None:
    """Far better than chance, and the labels hold nearly all of the probability."""

    def stories(topic: str, part: slice) -> list[dict[str, str]]:
        more = {"category": topic} if with_category else {}
        return [{"title": title, "id": topic} | more for title in TOPICS[topic][part]]

    candidates = [story for topic in TOPICS for story in stories(topic, slice(4, 6))]
    above, masses = [], []
    for topic in TOPICS:
        body = {"history": stories(topic, slice(4)), "candidates": candidates, "ranker": False}
        results = http.post("/rank", json=body).json()["results"]
        own, others = ([r for r in results if (r["id"] == topic) is same] for same in (True, False))
        above += [a["rank"] < b["rank"] for a in own for b in others]
        masses += [result["label_mass"] for result in results]
    assert sum(above) / len(above) >= 0.9  # the area under the ROC curve
    assert sum(mass >= 0.95 for mass in masses) >= 0.95 * len(masses)


def test_a_chat_in_the_original_words_answers_and_tells_readers_apart(
    http: httpx.Client, sdk: openai.OpenAI
) -> None:
    """The profile's layout is no chat, so a chat has other words, and may now and then say another
    label than the score."""
    profile = load_profile(DEFAULT_MODEL)
    agreed, clicked = 0, {True: 0, False: 0}
    for topic, other in product(TOPICS, TOPICS):
        reader = Reader(history=[Story(title) for title in TOPICS[topic][:4]])
        asked: Any = chat_messages(profile, reader, Story(TOPICS[other][4]))
        answer = sdk.chat.completions.create(
            model=MODEL, messages=asked, temperature=0.01, max_tokens=10
        )
        said = answer.choices[0].message.content
        assert said in ("Yes.", "No.")
        body = {"history": TOPICS[topic][:4], "target": TOPICS[other][4], "ranker": False}
        agreed += said == http.post("/predict", json=body).json()["label"]
        clicked[topic == other] += said == "Yes."
    assert agreed >= 14
    assert clicked[True] >= 3
    assert clicked[False] <= 2


def test_rank_equals_predict_and_uses_the_prefix_cache(http: httpx.Client) -> None:
    candidates = titles(20)
    ranked = http.post("/rank", json={**READER, "candidates": candidates}).json()
    alone = [http.post("/predict", json={**READER, "target": one}).json() for one in candidates]
    for result in ranked["results"]:
        expected = alone[result["index"]]["probability"]
        assert result["probability"] == pytest.approx(expected, rel=0.05)  # bfloat16 layers
    assert ranked["usage"]["cached_tokens"] > ranked["usage"]["prompt_tokens"] / 3
    assert alone[-1]["usage"]["cached_tokens"] > 30


def test_two_hundred_stories_do_not_tie(http: httpx.Client) -> None:
    body = {**READER, "candidates": titles(200), "shortlist": "all"}
    results = http.post("/rank", json=body).json()["results"]
    assert len({result["text_probability"] for result in results}) >= 198


def test_equal_stories_keep_their_order(http: httpx.Client) -> None:
    """Also where the first is computed before the cache holds the reader: new ones each time."""
    for turn in range(8):
        reader = {"history": [f"Harbour festival opens for the {turn + 20}th time", "Tesla"]}
        candidates = [*titles(6), *titles(9), *titles(3)]
        results = http.post("/rank", json={**reader, "candidates": candidates}).json()["results"]
        for title in titles(9):
            equal = [one for one in results if candidates[one["index"]] == title]
            assert len({one["probability"] for one in equal}) == 1
            assert [one["index"] for one in equal] == sorted(one["index"] for one in equal)
        pairs = [{**reader, "target": one} for one in (title, titles(1)[0], title)]
        first, _, third = http.post("/predict/batch", json={"pairs": pairs}).json()["results"]
        assert first == third


def test_batch_equals_predict(http: httpx.Client) -> None:
    pairs = [{**READER, "target": one} for one in titles(5)] + [{"target": "Microsoft"}]
    together = http.post("/predict/batch", json={"pairs": pairs}).json()["results"]
    for pair, result in zip(pairs, together, strict=True):
        alone = http.post("/predict", json=pair).json()
        assert result["probability"] == pytest.approx(alone["probability"], rel=0.05)


def test_it_orders_by_its_ranker_and_three_clicks_change_the_order(http: httpx.Client) -> None:
    """The README's calls, with ids of their own."""
    body = {
        "history": ["Rookie breaks the touchdown record", "Quarterback leads late comeback"],
        "candidates": [
            {"id": "clicks-1", "title": "Stocks fall"},
            {"id": "clicks-2", "title": "Cup final goes to penalties"},
            {"id": "clicks-3", "title": "How to cook a juicy turkey"},
        ],
    }

    def rank() -> dict[str, dict[str, Any]]:
        answer = http.post("/rank", json=body).json()
        assert answer["ranker"]
        results = answer["results"]
        found = [one["probability"] for one in results]
        assert found == sorted(found, reverse=True)
        assert all(one["probability"] != one["text_probability"] for one in results)
        return {one["id"]: one for one in results}

    before = rank()
    last = min(before, key=lambda name: float(before[name]["probability"]))
    events: list[dict[str, Any]] = []
    for reader in ("clicks-u1", "clicks-u2", "clicks-u3"):
        events.append({"type": "impression", "reader_id": reader, "stories": list(before)})
        events.append({"type": "click", "reader_id": reader, "story": last})
    told = http.post("/events", json={"events": events}).json()
    assert told == {"accepted": 6, "duplicates": 0}
    deadline = time.monotonic() + HANG_S
    while (after := rank())[last]["rank"] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert after[last]["probability"] > 1.2 * before[last]["probability"]


def test_metrics_hold_ours_and_vllms(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    assert f'frontpage_stories_scored_total{{model="{MODEL}"}}' in text
    assert "vllm:prompt_tokens_total{" in text
