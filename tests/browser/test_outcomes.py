"""What the experiments page draws of GET /experiments, on answers and clicks put into the store."""

import re
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Browser, Page, expect
from sqlalchemy import insert

from app.store.database import Database
from app.store.tables import impressions, outcomes
from tests.browser.conftest import Serve
from tests.support.visits import visiting

PAGE = "/page/experiments.html"
DAY_S = 86_400
STORIES = 3


def keep(url: str, clicks: dict[str, list[int]], answers: int) -> None:
    """Ranked answers of each model over four days. clicks: of how many answers the story at each
    place is clicked once."""
    database = Database(url)
    rows = [(model, number) for model in clicks for number in range(answers)]
    with database.writing() as connection:
        connection.execute(
            insert(impressions),
            [
                {"number": place, "id": f"{model}{number}", "model": model, "alias": "default"}
                | {"time": database.now() - DAY_S * (number % 4), "ranked": True}
                | {"stories": STORIES, "indices": bytes(2 * STORIES)}
                | {"probabilities": bytes(4 * STORIES)}
                for place, (model, number) in enumerate(rows)
            ],
        )
        connection.execute(
            insert(outcomes),
            [
                {"impression": place, "position": position, "learned": 0.0}
                | {"clicked": number * every[position] % answers < every[position]}
                for place, (model, number) in enumerate(rows)
                for every in [clicks[model]]
                for position in range(STORIES)
            ],
        )
    database.close()


async def shares(page: Page, chart: str) -> list[list[str]]:
    """The rows of a chart's table."""
    figure = page.locator(".chart").filter(has_text=chart)
    await figure.get_by_text("As a table").click()
    rows = await figure.locator("tbody tr").all()
    return [await row.locator("th, td").all_text_contents() for row in rows]


def shown(interval: Any) -> str:
    if interval is None:
        return "–"

    def percent(share: float) -> str:
        if share in (0, 1):
            return f"{share * 100:g} %"
        digits = 1 if share >= 0.1 else 2 if share >= 0.001 else 3
        return f"{share * 100:.{digits}f} %"

    low, high = percent(interval["low"]), percent(interval["high"])
    return f"{percent(interval['value'])} ({low} to {high})"


async def test_it_says_where_the_experiment_stands_and_draws_it(
    browser: Browser, serve: Serve, tmp_path: Path
) -> None:
    async with serve() as url:
        store = f"sqlite:///{tmp_path / 'state' / 'frontpage.sqlite'}"
        keep(store, {"new": [60, 30, 12], "old": [50, 26, 10]}, 400)
        async with httpx.AsyncClient() as client:
            report = (await client.get(f"{url}/experiments")).json()
        async with visiting(browser, url, PAGE) as visit:
            page = visit.page
            [difference] = report["differences"]
            more = difference["click_through"]["more"]
            said = page.locator(".difference")
            await expect(said).to_have_text(
                re.compile(r"^Too early to compare new with old: about [\d,]+ more impressions\.$")
            )
            number = int(re.sub(r"\D", "", await said.text_content() or ""))
            assert more <= number <= more * 1.11
            assert set(str(number)[2:]) <= {"0"}
            await expect(page.locator(".verdict .hint")).to_contain_text("stay as they are")
            models = report["models"]
            assert await shares(page, "by position") == [
                [
                    str(place + 1),
                    *(shown(one["by_position"][place]["click_through"]) for one in models),
                ]
                for place in range(STORIES)
            ]
            by_day = await shares(page, "by day")
            assert by_day == [
                [day["day"][5:], shown(day["click_through"]), shown(other["click_through"])]
                for day, other in zip(models[0]["by_day"], models[1]["by_day"], strict=True)
            ]
            assert len(by_day) == 4
            points = page.locator(".chart").first.locator("circle")
            await expect(points).to_have_count(2 * STORIES)
            heights = await points.evaluate_all("all => all.map(e => Number(e.getAttribute('cy')))")
            assert heights[0] < heights[1] < heights[2]  # fewer clicks further down
            await page.get_by_text("What the figures mean").click()
            await expect(page.locator(".meaning")).to_contain_text("a fifth more often")
            await visit.look("charts")


async def test_example_data_comes_and_goes(browser: Browser, serve: Serve) -> None:
    async with serve() as url, visiting(browser, url, PAGE) as visit:
        page, asked = visit.page, []
        await expect(page.locator("#figures")).to_contain_text("No answers are kept yet")
        page.on("request", lambda request: asked.append(request.url))
        await page.get_by_role("button", name="Load example data").click()
        await expect(page.locator(".difference")).to_have_text(
            "Too early to compare example-tuned with example-base: about 14,000 more impressions."
        )
        await expect(page.locator("#example-note")).to_be_visible()
        await expect(page.locator(".chart")).to_have_count(2)
        assert not asked  # all of it is the page's own
        await visit.look("example")
        await page.get_by_role("button", name="Remove example data").click()
        await expect(page.locator("#figures")).to_contain_text("No answers are kept yet")
        await expect(page.locator("#example-note")).to_be_hidden()
        assert asked == [f"{url}/experiments"]
