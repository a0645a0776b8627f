"""The try-it page on the real service with the default model."""

import json
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.servers import Service
from tests.support.visits import Visit, visiting

Json = dict[str, Any]


def shown(probability: float) -> str:
    """As the page writes it, from 0.001 on."""
    return f"{probability * 100:.{1 if probability >= 0.1 else 2}f} %"


async def asked(page: Page) -> Json:
    """The request that the page shows as Python."""
    program = await page.locator("#python").text_content()
    assert program
    found = re.search(r"json=(\{.*\n    \}),", program, re.DOTALL)
    assert found
    body: Json = eval(found[1])
    return body


async def ranked(visit: Visit) -> list[tuple[str, str]]:
    """Titles and probabilities, in the order shown."""
    await expect(visit.page.locator("#results")).to_have_attribute("aria-busy", "false")
    found = []
    for item in await visit.page.locator(".ranked > li").all():
        title = item.locator(".title")
        category = await title.locator(".category").all_text_contents()
        text = (await title.text_content() or "").removeprefix("".join(category))
        found.append((text, await item.locator("strong").first.text_content() or ""))
    return found


def expected(service: Service, body: Json) -> list[tuple[str, str]]:
    titles = [one["title"] if isinstance(one, dict) else one for one in body["candidates"]]
    results = answered(service, body)
    return [(titles[one["index"]], shown(one["probability"])) for one in results]


def answered(service: Service, body: Json) -> list[Json]:
    """The results of /rank."""
    answer = httpx.post(f"{service.url}/rank", json=body, timeout=60).raise_for_status()
    results: list[Json] = answer.json()["results"]
    return results


def outcomes(service: Service) -> Json:
    """Of the one model, asked for by no alias; other tests may have clicked before."""
    found = httpx.get(f"{service.url}/experiments").json()["models"]
    (figures,) = found or [{"clicks": 0, "impressions": 0}]
    assert isinstance(figures, dict)
    return figures


async def test_the_example_is_ranked_at_once(browser: Browser, default_service: Service) -> None:
    async with visiting(browser, default_service.url) as visit:
        page = visit.page
        await expect(page.get_by_label("Model", exact=True)).to_contain_text("news-smollm2")
        await expect(page.locator(".ranked > li")).to_have_count(12)
        found = await ranked(visit)
        assert await page.evaluate("scrollY") == 0
        assert found == expected(default_service, await asked(page))
        assert found[0][0].startswith("Quarterback out for the season")  # for the sports fan
        widths = await page.locator(".fill").evaluate_all("all => all.map(e => e.style.width)")
        assert widths[0] == "100%"
        assert float(widths[-1].rstrip("%")) < 50
        await expect(page.locator(".summary")).to_be_hidden()
        await visit.look("ranked")
        await page.get_by_text("Technical figures").click()
        await expect(page.locator(".summary")).to_contain_text("news-smollm2")
        facts = await page.locator(".summary dd").all_text_contents()
        assert re.fullmatch(r"[\d,.]+ ms", facts[0])
        assert int(facts[2].replace(",", "")) > 1000  # most of 12 prompts is their common beginning
        assert re.fullmatch(r"[0-9a-f]{32}", facts[3])
        await expect(page.get_by_role("status").first).to_contain_text("Ranked 12 stories in")
        # The page's own request and the one above.
        await expect(page.locator("#live-requests")).to_have_text(re.compile("^[12]$"))
        await expect(page.locator("#live-total")).to_have_text("2 since the start")
        await expect(page.locator("#live-p50")).to_have_text(re.compile(r"\d m?s$"))
        await expect(page.locator("#live-cache")).to_have_text(re.compile(r"^\d+\.\d %$"))
        await visit.look("technical")


async def test_it_says_why(browser: Browser, default_service: Service) -> None:
    """With the figures of the same request, sent once more."""
    async with visiting(browser, default_service.url) as visit:
        page = visit.page
        first = page.locator(".ranked > li").first
        await expect(first.locator(".groups")).to_be_hidden()
        await first.get_by_text("Why").click()
        await page.locator(".ranked > li").last.get_by_text("Why").click()
        await expect(first.locator(".groups")).to_be_visible()
        await visit.look("why")
        names = await first.locator(".groups dt").all_text_contents()
        values = await first.locator(".groups .number").all_text_contents()
        widths = await first.locator(".added").evaluate_all("all => all.map(e => e.style.width)")
        less = await first.locator(".added").evaluate_all("all => all.map(e => e.className)")
        figures = await first.locator(".figures").text_content() or ""
        body = await asked(page)
        assert body["explain"] is True
    results = answered(default_service, body)
    reasons = [one["explanation"] for one in results]
    wanted = reasons[0]
    assert f"language model {shown(results[0]['text_probability'])}" in figures
    assert names == ["Live", "Likeness", "Category", "Reader", "Text"]
    assert list(zip(names, values, strict=True)) == [
        (name, signed(wanted[name.lower()])) for name in names
    ]
    most = max(abs(one[name.lower()]) for one in reasons for name in names)
    assert [float(width.rstrip("%")) for width in widths] == pytest.approx(
        [abs(wanted[name.lower()]) / most * 50 for name in names], abs=0.1
    )
    assert ["less" in one for one in less] == [wanted[name.lower()] < 0 for name in names]


def signed(value: float) -> str:
    sign = "±" if abs(value) < 0.005 else "−" if value < 0 else "+"
    return f"{sign}{abs(value):.2f}"


async def test_a_click_changes_the_next_ranking(browser: Browser, default_service: Service) -> None:
    titles = ["Harbor ferry gets a new timetable", "Town library opens on Sundays", "Valley museum"]
    async with visiting(browser, default_service.url) as visit:
        page = visit.page
        await page.get_by_label("One title per line").fill("\n".join(titles))
        await visit.rank()
        before = await ranked(visit)
        last, probability = before[-1]
        item = page.locator(".ranked > li").filter(has_text=last)
        await expect(item).to_contain_text("Not shown yet")
        button = page.get_by_role("button", name=f"Clicked: {last}")
        for _ in range(3):
            for label in ("✓ Clicked", "Clicked?", "✓ Clicked"):  # counts once in the live figures
                await button.click()
                await expect(button).to_have_text(label)
            await visit.rank()
            await expect(button).to_have_text("Clicked?")
        while not await item.get_by_text("Shown 3 times, clicked 3 times").count():
            await visit.rank()  # until the figures have followed
            await expect(button).to_have_text("Clicked?")
        after = await ranked(visit)
        assert after[-1][0] != last
        assert dict(after)[last] != probability
        await visit.look("clicked")


async def test_another_reader_gets_another_ranking(
    browser: Browser, default_service: Service
) -> None:
    async with visiting(browser, default_service.url) as visit:
        await visit.rank()
        await expect(visit.page.locator(".ranked > li")).to_have_count(12)
        sports = await ranked(visit)
        await visit.page.get_by_role("button", name="Home cook", exact=True).click()  # ranks anew
        await expect(visit.page.locator(".ranked .title").first).to_contain_text(
            "FOODANDDRINK", ignore_case=True
        )
        cook = await ranked(visit)
        assert {title for title, _ in cook} == {title for title, _ in sports}
        assert cook[0][0] != sports[0][0]
        assert cook == expected(default_service, await asked(visit.page))


async def test_it_works_by_keyboard_alone(browser: Browser, default_service: Service) -> None:
    async with visiting(browser, default_service.url) as visit:
        page, keys = visit.page, visit.page.keyboard
        await expect(page.get_by_label("Model", exact=True)).to_contain_text("news-smollm2")
        await keys.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the ranking")).to_be_focused()
        await tab_to(page, "Investor")
        await keys.press("Enter")
        await expect(page.get_by_role("button", name="Investor", exact=True)).to_have_attribute(
            "aria-pressed", "true"
        )
        await visit.ranked_at_once()  # what it announces would come between
        first = "Chip maker raises its forecast, shares jump"
        await tab_to(page, f"Move down: {first}")
        for _ in range(4):
            await keys.press("Enter")  # the focus goes along
        await expect(page.locator("#lists li").nth(4)).to_contain_text(first)
        await expect(page.get_by_role("button", name=f"Move up: {first}")).to_be_focused()
        await expect(page.get_by_role("status").first).to_have_text("Moved to place 5 of 5.")
        await tab_to(page, f"Remove: {first}")
        await keys.press("Enter")
        await expect(
            page.get_by_role("button", name=re.compile("^Remove: Grocery"))
        ).to_be_focused()
        await tab_to(page, "New story for History")
        await keys.type("autos | A small car wins a long race")
        await keys.press("Enter")
        await expect(page.get_by_label("New story for History")).to_be_focused()
        await tab_to(page, "Clear")
        await keys.press("Enter")
        await expect(page.get_by_label("One title per line")).to_be_focused()
        await keys.type("Quiet title\n\nfinance | Shares jump on merger\n")
        await keys.press("Control+Enter")
        await expect(page.locator(".ranked > li")).to_have_count(2)
        body = await asked(page)
        assert body["history"][-1] == {"title": "A small car wins a long race", "category": "autos"}
        assert len(body["history"]) == 5
        assert body["candidates"][0] == "Quiet title"
        assert await ranked(visit) == expected(default_service, body)
        await tab_to(page, "Rank")
        await keys.press("Space")
        await expect(page.get_by_role("status").first).to_contain_text("Ranked 2 stories")


async def tab_to(page: Page, name: str) -> None:
    """Forward with Tab, as far as the control of this name."""
    focused = """() => {
      const now = document.activeElement;
      return (now.ariaLabel ?? (now.labels?.[0] ?? now).textContent).trim();
    }"""
    seen = []
    for _ in range(120):
        await page.keyboard.press("Tab")
        seen.append(await page.evaluate(focused))
        if seen[-1] == name:
            return
    raise AssertionError(f"Tab never came to {name!r}: {seen}")


async def test_the_shown_commands_do_what_the_page_did(
    browser: Browser, default_service: Service
) -> None:
    async with visiting(browser, default_service.url) as visit:
        page = visit.page
        await page.get_by_label("One title per line").fill(
            'It\'s "quoted" $HOME `id` \\n\nCup final'
        )
        await page.get_by_label("New story for Liked").fill("C'est l'été ☀ </script>")
        await page.get_by_role("button", name="Add to Liked").click()
        await visit.rank()
        await expect(page.locator(".ranked > li")).to_have_count(2)
        found = await ranked(visit)
        for name in ("curl", "python"):
            await page.locator(f"[data-copy={name}]").click()
            await expect(page.locator(f"[data-copy={name}]")).to_contain_text("Copied")
        program = await page.evaluate("navigator.clipboard.readText()")
        assert program == await page.locator("#python").text_content()
        command = await page.locator("#curl").text_content()
        assert command
        assert "KEY" not in command
        body = await asked(page)
    results = json.loads(run("bash", "-c", command))["results"]
    titles = body["candidates"]
    assert [(titles[one["index"]], shown(one["probability"])) for one in results] == found
    printed = run(sys.executable, "-c", program)
    lines = [line.split() for line in printed.splitlines()]
    assert [(titles[int(index)], shown(float(p))) for _, index, p in lines] == found


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_clicks_become_outcomes(browser: Browser, default_service: Service) -> None:
    before = outcomes(default_service)
    async with visiting(browser, default_service.url) as visit:
        page = visit.page
        await visit.rank()
        await page.get_by_role("button", name=re.compile("^Clicked: Cup final")).click()
        await expect(
            page.get_by_role("button", name=re.compile("^Clicked: Cup final"))
        ).to_have_text("✓ Clicked")
        await page.get_by_role("button", name=re.compile("^Clicked: Recall")).click()
        await expect(page.get_by_role("button", name=re.compile("^Clicked: Recall"))).to_have_text(
            "✓ Clicked"
        )
        await page.get_by_role("button", name=re.compile("^Clicked: Recall")).click()  # taken back
        await expect(page.get_by_role("button", name=re.compile("^Clicked: Recall"))).to_have_text(
            "Clicked?"
        )
        await page.get_by_role("link", name="Experiments").click()
        clicks, impressions = before["clicks"] + 1, before["impressions"] + 12
        row = page.get_by_role("row", name=re.compile(f"^news-smollm2 .* {clicks} of"))
        await expect(row).to_be_visible()
        figures = outcomes(default_service)
        assert (figures["clicks"], figures["impressions"]) == (clicks, impressions)
        cells = await row.get_by_role("cell").all_text_contents()
        assert cells[3:5] == [str(impressions), str(clicks)]
        through = figures["click_through"]
        low, high = shown(through["low"]), shown(through["high"])
        assert cells[0] == f"{shown(through['value'])} {low} to {high}"
        await expect(row.locator("svg")).to_have_count(3)
        await page.get_by_label("Answers from").select_option("the last day")
        await expect(row).to_be_visible()
        await visit.look("outcomes")
