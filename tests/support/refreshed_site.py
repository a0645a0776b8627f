"""A small invented site whose readers like some stories far more than others, and its refreshes."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.tiny_training import FAST

WORDS = ("football", "election", "river", "rocket", "garden", "violin", "harbour", "novel", "storm")
HOURS = 30
LISTS, SHOWN, STORIES, READERS = 420, 8, 40, 60
NAME = "tiny"
"""The base model's, and so its folder's."""
Json = dict[str, Any]


def stories() -> list[Json]:
    draw = random.Random(0)
    return [
        {
            "id": f"s{number}",
            "title": " ".join(draw.sample(WORDS, 4)),
            "category": WORDS[number % 5],
        }
        for number in range(STORIES)
    ]


def events(end: float) -> list[Json]:
    """The lists of the hours until `end`, and their clicks: one story in four is liked by most."""
    draw = random.Random(1)
    found: list[Json] = []
    for number in range(LISTS):
        at = end - HOURS * 3600 * (1 - number / LISTS)
        reader = f"r{draw.randrange(READERS)}"
        shown = draw.sample(range(STORIES), SHOWN)
        event = {"reader_id": reader, "time": at}
        names = [f"s{story}" for story in shown]
        found.append({**event, "type": "impression", "id": f"i{number}", "stories": names})
        for story in shown:
            if draw.random() < (0.6 if story % 4 == 0 else 0.03):
                click = {"type": "click", "id": f"i{number}-{story}", "story": f"s{story}"}
                found.append({**event, **click, "time": at + 5, "impression_id": f"i{number}"})
    return found


async def tell(client: httpx.AsyncClient, end: float) -> None:
    for method, path, body in (
        ("PUT", "/stories", {"stories": stories()}),
        ("POST", "/events", {"events": events(end)}),
    ):
        answer = await client.request(method, path, json=body)
        assert answer.status_code == 200, answer.text


def write_plan(folder: Path, url: str, base: Path, **changes: Any) -> Path:
    """A file for `refresh`, and the options of finetune beside it."""
    options = FAST | {"num_train_epochs": 1, "max_samples": 200, "val_size": 0, "lora_rank": 8}
    (folder / "finetune.yaml").write_text(yaml.safe_dump(options))
    plan: Json = {
        "url": url,
        "base": str(base),
        "adapters": str(folder / "adapters"),
        "encoder": None,
        "finetune": str(folder / "finetune.yaml"),
        "days": 2,
        "click_hours": 0.01,
        "fit_hours": 8,
        "test_hours": 8,
        "fit_impressions": 100,
        "test_impressions": 100,
        "gate": {"impressions": 20, "ece": 0.2, "label_mass": 0, "latency": 100},
        "experiment": {"share": 1},
    }
    for name, value in changes.items():
        plan[name] = {**plan[name], **value} if isinstance(value, dict) else value
    file = folder / "refresh.yaml"
    file.write_text(yaml.safe_dump(plan))
    return file


async def weights(client: httpx.AsyncClient, alias: str = "default") -> dict[str, float]:
    """Without that alias, the base model answers."""
    found = (await client.get("/aliases")).json()["aliases"]
    return next((one["weights"] for one in found if one["alias"] == alias), {NAME: 1})


async def adapters(client: httpx.AsyncClient) -> list[str]:
    return [one["name"] for one in (await client.get("/adapters")).json()["adapters"]]


async def click_for(client: httpx.AsyncClient, better: str, answers: Sequence[int]) -> None:
    """Answers for so many readers; those of the model `better` get far more clicks."""
    draw = random.Random(2)
    for number in answers:
        body = {"reader_id": f"e{number}", "candidates": [{"id": f"s{n}"} for n in range(4)]}
        answer = (await client.post("/rank", json=body)).json()
        clicked = draw.random() < (0.9 if answer["model"] == better else 0.1)
        feedback = {"id": answer["id"], "index": answer["results"][0]["index"], "clicked": clicked}
        assert (await client.post("/feedback", json=feedback)).status_code == 200


def now() -> float:
    return time.time()
