"""Takes the README's picture of a running service: `python -m tools.picture URL FILE`."""

import asyncio
import sys

from playwright.async_api import async_playwright, expect

from tools.openapi import ROOT

CHROMIUM = ROOT / ".venv" / "bin" / "chromium"
WIDTH, HEIGHT = 1280, 1200


async def take(url: str, file: str) -> None:
    """Open the page at `url`, which ranks its example, ask why the first story is there, and save a
    picture of it as a PNG file."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        await page.goto(url)
        await expect(page.locator(".ranked")).to_be_visible(timeout=60_000)  # ranked by itself
        await page.get_by_text("Why").first.click()
        await page.screenshot(path=file)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(take(*sys.argv[1:]))
    print(f"wrote {sys.argv[2]}")
