"""Which clicked stories the language model's judgement rests on, on the fake engine."""

import json
from math import log
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import Serve
from tests.support.rankers import MODEL, titles
from tests.support.visits import visiting
from tests.support.waiting import HeldEngine

BUTTON = "Which clicked stories count?"


async def without_each(
    url: str, history: list[str], tried: list[str], target: str
) -> dict[str, str]:
    """Title → what the page should show, from /predict with the story left out."""

    async def log_odds(stories: list[str]) -> float:
        body = {"history": stories, "target": target}
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{url}/predict", json=body, timeout=60)
        probability: float = answer.raise_for_status().json()["text_probability"]
        return log(probability / (1 - probability))

    whole, found = await log_odds(history), {}
    for title in tried:
        value = whole - await log_odds([one for one in history if one != title])
        sign = "±" if abs(value) < 0.005 else "−" if value < 0 else "+"
        found[title] = f"{sign}{abs(value):.2f}"
    return found


async def only_history(page: Page, stories: list[str]) -> None:
    while await page.get_by_role("button", name="Remove: ").count():
        await page.get_by_role("button", name="Remove: ").first.click()
    for title in stories:
        await page.get_by_label("New story for History").fill(title)
        await page.get_by_role("button", name="Add to History").click()


@pytest.mark.parametrize(("clicked", "read", "tried"), [(3, 20, 3), (10, 20, 8), (5, 4, 4)])
async def test_each_clicked_story_is_left_out_once(
    browser: Browser, serve: Serve, ranked: dict[str, Any], clicked: int, read: int, tried: int
) -> None:
    """Of those that the prompt holds, and at most eight."""
    (ranked["model"] / "profile.json").write_text(json.dumps({"history": read}))
    history, target = titles(clicked, seed=1), titles(1, seed=2)[0]
    async with serve(**ranked) as url, visiting(browser, url) as visit:
        page = visit.page
        await visit.ranked_at_once()
        await only_history(page, history)
        await page.get_by_label("One title per line").fill(target)
        await visit.rank()
        await page.get_by_text("Why").first.click()
        await expect(page.locator(".groups dt").first).to_have_text("Live")
        await page.get_by_role("button", name=BUTTON).click()
        rows = page.locator(".influence .groups")
        wanted = await without_each(url, history, history[-tried:], target)
        await expect(rows.locator("dt")).to_have_count(len(wanted))
        names = await rows.locator("dt").all_text_contents()
        values = await rows.locator(".number").all_text_contents()
        assert dict(zip(names, values, strict=True)) == wanted
        numbers = [float(value.replace("−", "-").replace("±", "")) for value in values]
        assert numbers == sorted(numbers, reverse=True)
        many = f"(the latest {tried} of {clicked})" if clicked > tried else f"(all of {clicked})"
        await expect(page.locator(".influence")).to_contain_text(many)
        await visit.look(f"influence-{clicked}")


async def test_a_model_without_a_ranker_is_asked_too_and_may_fail(
    browser: Browser, serve: Serve, engine: HeldEngine
) -> None:
    async with serve() as url, visiting(browser, url, refusals=frozenset({503})) as visit:
        page = visit.page
        await visit.ranked_at_once()
        await page.get_by_text("Why").first.click()
        await expect(page.locator(".why").first).to_contain_text("language model alone has judged")
        engine.dead = True
        await page.get_by_role("button", name=BUTTON).click()
        place = page.locator(".influence").first
        await expect(place).to_contain_text("the engine has died")
        await visit.look("influence-failed")
        engine.dead = False
        await place.get_by_role("button", name="Try again").click()
        await expect(place.locator("dt")).to_have_count(3)  # as many as the prompt holds


async def test_a_degraded_answer_does_not_pass_for_the_language_models(
    browser: Browser, serve: Serve, ranked: dict[str, Any], engine: HeldEngine
) -> None:
    async with (
        serve(**ranked) as url,
        visiting(browser, url, refusals=frozenset({503})) as visit,
    ):
        page = visit.page
        await visit.ranked_at_once()
        engine.dead = True
        await page.get_by_text("Why").first.click()
        await page.get_by_role("button", name=BUTTON).click()
        await expect(page.locator(".influence").first).to_contain_text("can't answer")
        assert MODEL in await page.get_by_label("Model", exact=True).inner_text()


async def test_without_a_history_there_is_nothing_to_leave_out(
    browser: Browser, serve: Serve
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        await visit.ranked_at_once()
        await only_history(visit.page, [])
        await visit.rank()
        await visit.page.get_by_text("Why").first.click()
        await expect(visit.page.locator(".why").first).to_contain_text("alone has judged")
        await expect(visit.page.get_by_role("button", name=BUTTON)).to_have_count(0)
