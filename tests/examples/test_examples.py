"""The examples run against a real service and print what it answers."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.support.models import ROOT
from tests.support.servers import Service, serving

MODEL = "news-smollm2"
COUNTS = ("answers_with_feedback", "impressions", "clicks")


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    command = [sys.executable, "-m", f"examples.{name}", *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def figures(service: Service) -> dict[str, Any]:
    """Of the only model. Other tests may have sent feedback before."""
    models = httpx.get(f"{service.url}/experiments").raise_for_status().json()["models"]
    (found,) = models or [dict.fromkeys(COUNTS, 0)]
    assert isinstance(found, dict)
    return found


def test_the_client_prints_the_services_answers(default_service: Service) -> None:
    done = run("client", "--url", default_service.url)
    assert done.returncode == 0, done.stderr
    first = re.match(
        rf"{MODEL} expects a click with a probability of (\d\.\d{{3}}):\n", done.stdout
    )
    assert first
    ranked = re.findall(r"^  (\d)\. (\d\.\d{3})  (N\d)  (.+)$", done.stdout, re.M)
    assert [rank for rank, *_ in ranked] == ["1", "2", "3"]
    probabilities = [float(probability) for _, probability, *_ in ranked]
    assert probabilities == sorted(probabilities, reverse=True)
    # The story that was scored alone has the same probability among others.
    scored = {title: float(probability) for _, probability, _, title in ranked}
    assert scored["Coach fired after losing season"] == pytest.approx(float(first[1]), abs=0.002)
    assert re.search(r"\nThe same model in a chat: .*\w.*\n$", done.stdout)


def test_the_client_tells_the_services_error(default_service: Service) -> None:
    done = run("client", "--url", f"{default_service.url}/nowhere")
    assert done.returncode == 1
    assert done.stderr == "the service answered 404: Not Found\n"


def test_the_feedback_loop_prints_what_its_clicks_changed(default_service: Service) -> None:
    before = figures(default_service)
    done = run("feedback_loop", "--url", default_service.url, "--visits", "8", "--seed", "1")
    assert done.returncode == 0, done.stderr
    after = figures(default_service)
    said = re.search(r"^8 visits, (\d+) clicks\.", done.stdout, re.M)
    assert said
    clicks = int(said[1])
    assert clicks > 0
    changes = [after[name] - before[name] for name in COUNTS]
    assert changes == [8, 8 * 5, clicks]
    counted = f"{after['impressions']} stories shown, {after['clicks']} clicked"
    assert f"{MODEL}, for its own name: {counted}" in done.stdout.splitlines()
    assert f"click_through        {after['click_through']['value']:.3f}" in done.stdout
    assert len(re.findall(r"^  \d\. \d\.\d{3}  \w", done.stdout, re.M)) == 5


async def test_the_same_seed_gives_the_same_visits_and_clicks(app: FastAPI) -> None:
    """On the fake engine, whose answers do not depend on what is cached."""
    pages = []
    async with serving(app) as url:
        for seed in ("1", "1", "2"):
            options = ("--url", url, "--visits", "6", "--seed", seed)
            done = await asyncio.to_thread(run, "feedback_loop", *options)
            assert done.returncode == 0, done.stderr
            pages.append(done.stdout.partition("What the service says")[0])
    assert pages[0] == pages[1] != pages[2]


def test_events_move_a_story_up(default_service: Service) -> None:
    done = run("events", "--url", default_service.url)
    assert done.returncode == 0, done.stderr
    row = r"^  (\d)\. (\d\.\d{3})  events-1  Stocks fall \((.*)\)$"
    before, after = re.findall(row, done.stdout, re.M)
    assert "\n6 events: 3 readers clicked events-1. After:\n" in done.stdout
    assert float(after[1]) > float(before[1])
    assert (after[0], before[2], after[2]) == ("1", "never shown", "3 of 3 clicked")


def test_a_feeds_stories_are_ranked(default_service: Service) -> None:
    done = run("rss", "examples/feed.xml", "--read", "Late comeback", "--url", default_service.url)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ (\d)\. (\d\.\d{3})  (.+)\n +(\S+)$", done.stdout, re.M)
    assert [rank for rank, *_ in rows] == ["1", "2", "3"]
    probabilities = [float(probability) for _, probability, *_ in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {(title, story) for *_, title, story in rows} == {
        ("Stocks fall after the central bank’s meeting", "https://news.example/stocks"),
        ("Cup final goes to penalties & extra drama", "cup-final"),
        ("How to cook a juicy turkey", "https://news.example/turkey"),
    }


@pytest.mark.parametrize(
    ("feed", "complaint"),
    [
        ("<rss><channel><item/></channel></rss>", "there is no <item> with a <title>"),
        ("no feed", "syntax error"),
        ('<!DOCTYPE r [<!ENTITY a "a">]><rss><item><title>&a;</title></item></rss>', "Entities"),
    ],
)
def test_a_feed_that_cannot_be_read_is_named(tmp_path: Path, feed: str, complaint: str) -> None:
    file = tmp_path / "feed.xml"
    file.write_text(feed)
    done = run("rss", str(file))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{file}: {complaint}")
