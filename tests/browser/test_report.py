"""The training report in a browser: light, dark and on a phone."""

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.support.visits import visiting
from tests.training.test_report import estimate, evaluation, model, write
from training.__main__ import main


async def test_a_report_can_be_read_anywhere(browser: Browser, tmp_path: Path) -> None:
    change = {"auc": estimate(0.1, 0.05, 0.15), "log_loss": estimate(-0.1, -0.3, 0.1)}
    models = [model("base", 0.52), model("news-v1", 0.62, differences=change), model("third", 0.6)]
    folder = write(tmp_path / "eval", evaluation(*models))
    assert main(["report", str(folder)]) == 0
    async with visiting(browser, "file://", str(folder / "report.html")) as visit:
        await expect(visit.page.locator(".headline")).to_contain_text("news-v1 orders better than")
        await visit.look("report")
        ink = await visit.page.locator("svg text").first.evaluate("e => getComputedStyle(e).fill")
        await visit.page.emulate_media(color_scheme="dark")
        other = await visit.page.locator("svg text").first.evaluate("e => getComputedStyle(e).fill")
        assert ink != other
