"""Errors, overload and hostile titles, on the fake engine, whose faults can be set."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from playwright.async_api import Browser, expect
from sqlalchemy import insert

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Limits, Settings
from app.store.database import Database
from app.store.tables import impressions, outcomes
from tests.browser.conftest import Serve
from tests.support.servers import serving
from tests.support.visits import visiting


async def test_a_wrong_field_is_shown(browser: Browser, serve: Serve) -> None:
    async with (
        serve(limits=Limits(max_title_chars=70, max_stories=6)) as url,
        visiting(browser, url, refusals=frozenset({422})) as visit,
    ):
        page, alert = visit.page, visit.page.get_by_role("alert")
        stories = page.get_by_label("One title per line")
        await stories.fill(f"short\n\n{'long ' * 20}\nshort")
        await visit.rank()
        await expect(alert).to_contain_text("at most 70 characters")
        await expect(alert).to_contain_text("Field: The stories, line 3")
        await expect(alert).to_contain_text("Request id: ")
        await expect(stories).to_have_attribute("aria-invalid", "true")
        await alert.get_by_role("button", name="Go to the field").click()
        await expect(stories).to_be_focused()
        await visit.look("error")
        await stories.fill("short")
        for _ in range(2):
            await page.get_by_label("New story for History").fill("one more")
            await page.get_by_role("button", name="Add to History").click()
        await visit.rank()
        await expect(alert).to_contain_text("history: at most 6 stories here")
        await expect(page.locator("section[data-param=history]")).to_have_class("list invalid")
        await expect(stories).not_to_have_attribute("aria-invalid", "true")
        await page.get_by_role("button", name="Remove: one more").first.click()
        await visit.rank()
        await expect(alert).to_be_empty()
        await expect(page.locator(".ranked > li")).to_have_count(1)


async def test_nothing_to_rank_and_nothing_known_of_the_reader(
    browser: Browser, serve: Serve
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page = visit.page
        await page.get_by_role("button", name="Clear").click()
        await visit.rank()
        await expect(page.locator(".empty")).to_contain_text("add at least one story")
        await expect(page.get_by_label("One title per line")).to_be_focused()
        while await page.get_by_role("button", name="Remove: ").count():
            await page.get_by_role("button", name="Remove: ").first.click()
        await expect(page.get_by_text("None", exact=True)).to_have_count(3)
        await visit.look("empty")
        await page.get_by_label("One title per line").fill("Cup final")
        await visit.rank()
        await expect(page.locator(".ranked > li")).to_have_count(1)


async def test_overload_says_when_to_try_again(
    browser: Browser, serve: Serve, engine: FakeEngine
) -> None:
    async with (
        serve(limits=Limits(max_pending_requests=1)) as url,
        visiting(browser, url, refusals=frozenset({503})) as visit,
        httpx.AsyncClient() as client,
    ):
        page, alert = visit.page, visit.page.get_by_role("alert")
        await visit.ranked_at_once()
        engine.latency_seconds = 20
        other = asyncio.create_task(client.post(f"{url}/predict", json={"target": "t"}))
        while not engine.running:
            await asyncio.sleep(0.01)
        await visit.rank()
        await expect(alert).to_contain_text("The service is busy")
        await expect(alert).to_contain_text("Nothing was started. Try again in 1 s.")
        await expect(alert).to_contain_text("Try again now.")
        await expect(page.locator("#live-work")).to_have_text("1")
        await visit.look("overload")
        other.cancel()
        while engine.running:
            await asyncio.sleep(0.01)
        engine.latency_seconds = 1
        await alert.get_by_role("button", name="Try again").click()
        await expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
        await expect(page.get_by_role("button", name="Ranking…")).to_be_visible()
        await expect(page.locator(".ranked > li")).to_have_count(12)
        await expect(alert).to_be_empty()


async def test_a_dead_engine_and_a_service_that_is_gone(
    browser: Browser, serve: Serve, engine: FakeEngine
) -> None:
    async with serve() as url, visiting(browser, url, refusals=frozenset({503})) as visit:
        alert = visit.page.get_by_role("alert")
        await visit.ranked_at_once()
        engine.dead = True
        await visit.rank()
        await expect(alert).to_contain_text("The service can't answer")
        await expect(alert).to_contain_text("the engine has died")
        engine.dead = False
        await visit.page.context.set_offline(True)
        await alert.get_by_role("button", name="Try again").click()
        await expect(alert).to_contain_text("The service can't be reached")
        await expect(visit.page.locator("#live-state")).to_contain_text("can't be reached")
        gone = [problem for problem in visit.problems if "ERR_INTERNET_DISCONNECTED" in problem]
        assert visit.problems == gone != []
        visit.problems.clear()
        await visit.page.context.set_offline(False)
        await alert.get_by_role("button", name="Try again").click()
        await expect(visit.page.locator(".ranked > li")).to_have_count(12)


async def test_it_works_behind_a_proxys_prefix(
    browser: Browser, settings: Settings, engine: FakeEngine
) -> None:
    app = create_app(settings, engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with app.router.lifespan_context(app):
            yield

    proxy = FastAPI(lifespan=lifespan)
    proxy.mount("/news/api", app)
    async with serving(proxy) as url, visiting(browser, url, "/news/api/") as visit:
        page = visit.page
        await visit.rank()
        await expect(page.locator(".ranked > li")).to_have_count(12)
        await expect(page.locator("#curl")).to_contain_text(f"curl -sS '{url}/news/api/rank'")
        await page.get_by_role("link", name="Experiments").click()
        await expect(page.get_by_role("heading", name="Outcomes")).to_be_visible()
        await page.get_by_role("link", name="Frontpage").click()
        await expect(page.get_by_role("heading", name="Which story")).to_be_visible()


async def test_titles_stay_text(browser: Browser, serve: Serve) -> None:
    hostile = ["<img src=x onerror=alert(1)>", "<b>x</b> | <script>alert(2)</script>", "a | b | c"]
    async with serve() as url, visiting(browser, url) as visit:
        page = visit.page
        page.on("dialog", lambda dialog: visit.problems.append(f"alert: {dialog.message}"))
        for name in ("History", "Liked", "Disliked"):
            for title in hostile:
                await page.get_by_label(f"New story for {name}").fill(title)
                await page.get_by_role("button", name=f"Add to {name}").click()
        await page.get_by_label("One title per line").fill("\n".join(hostile))
        await visit.rank()
        await expect(page.locator(".ranked > li")).to_have_count(3)
        await expect(page.locator(".ranked")).to_contain_text(hostile[0])
        await expect(page.locator("#lists")).to_contain_text("<script>alert(2)</script>")
        await expect(page.locator("main :is(img, b, script)")).to_have_count(0)
        await visit.look("hostile")


async def test_the_live_panel_rests_while_the_tab_is_hidden(browser: Browser, serve: Serve) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page, asked = visit.page, []
        await visit.ranked_at_once()
        await expect(page.locator("#live-requests")).to_have_text("1")
        page.on("request", lambda request: asked.append(request.url))
        await page.evaluate(
            "Object.defineProperty(document, 'hidden', {get: () => window.isHidden});"
            "window.isHidden = true; document.dispatchEvent(new Event('visibilitychange'))"
        )
        await asyncio.sleep(3.5)
        assert not asked
        await page.evaluate(
            "window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))"
        )
        await asyncio.sleep(1)
        assert asked == [f"{url}/metrics"]


async def test_how_models_differ_is_one_sentence(
    browser: Browser, serve: Serve, tmp_path: Path
) -> None:
    async with serve() as url:
        keep_clicks(
            f"sqlite:///{tmp_path / 'state' / 'frontpage.sqlite'}", {"a": 9, "b": 12, "c": 12}
        )
        async with visiting(browser, url, "/page/experiments.html") as visit:
            found = visit.page.locator(".difference")
            await expect(found).to_have_text(
                [
                    "a gets more clicks than b.",
                    "a gets more clicks than c.",
                    "Too early to compare b with c.",  # they are alike to the last click
                ]
            )
            hints = visit.page.locator(".verdict .hint")
            await expect(hints.first).to_have_text(
                re.compile(
                    r"Click-through of a is 2\.77 percentage points above that of b \(anytime-"
                    r"valid range [\d.]+ to [\d.]+\)\.$"
                )
            )
            await expect(hints.last).to_contain_text("0.00 percentage points above that of c")
            await expect(hints.last).to_contain_text("no difference that more impressions would")
            await visit.look("differences")


def keep_clicks(url: str, every: dict[str, int]) -> None:
    """4,000 answers of one story for each model; of the first, every ninth is clicked."""
    database = Database(url)
    rows = [(model, number) for model in every for number in range(4000)]
    with database.writing() as connection:
        connection.execute(
            insert(impressions),
            [
                {"number": place, "id": f"{model}{number}", "time": database.now()}
                | {"model": model, "alias": "default", "ranked": True, "stories": 1}
                | {"indices": bytes(2), "probabilities": bytes(4)}
                for place, (model, number) in enumerate(rows)
            ],
        )
        connection.execute(
            insert(outcomes),
            [
                {"impression": place, "position": 0, "learned": 0.0}
                | {"clicked": number % every[model] == 0}
                for place, (model, number) in enumerate(rows)
            ],
        )
    database.close()
