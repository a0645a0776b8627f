"""Takes the README's recording of a running service: `python -m tools.recording URL FILE.gif`."""

import asyncio
import io
import sys

from PIL import Image
from playwright.async_api import Page, async_playwright, expect

from tools.openapi import ROOT

CHROMIUM = ROOT / ".venv" / "bin" / "chromium"
VIEW = {"width": 1200, "height": 900}
TOP = 290
"""So many pixels are left out above the reader, the stories and the ranking."""
SHOWN_MS, LAST_MS = 1800, 3500
COLORS = 64


async def frames(url: str) -> list[Image.Image]:
    """The example's readers, one after the other, and why the last one's first story is there."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]
        await page.goto(url)
        await page.evaluate(f"scrollTo(0, {TOP})")
        found = [await frame(page)]
        for reader in ("Home cook", "Investor"):
            await page.get_by_role("button", name=reader, exact=True).click()
            found.append(await frame(page))
        await page.get_by_text("Why").first.click()
        found.append(await frame(page))
        await browser.close()
    return found


async def frame(page: Page) -> Image.Image:
    """The page once it has ranked."""
    await expect(page.locator(".ranked")).to_be_visible(timeout=60_000)
    await expect(page.locator("#results")).to_have_attribute("aria-busy", "false", timeout=60_000)
    picture = Image.open(io.BytesIO(await page.screenshot()))
    return picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)


def record(url: str, file: str) -> None:
    first, *others = asyncio.run(frames(url))
    times = [*[SHOWN_MS] * len(others), LAST_MS]
    first.save(file, save_all=True, append_images=others, duration=times, loop=0, optimize=True)


if __name__ == "__main__":
    record(*sys.argv[1:])
    print(f"wrote {sys.argv[2]}")
