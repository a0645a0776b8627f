"""Each text of the page has its Chinese: what its HTML says, and what its scripts pass to t()."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.http.routes.page import FOLDER

SCRIPTS = sorted(FOLDER.glob("*.js"))
PAGES = sorted(FOLDER.glob("*.html"))
STRING = r'"(?:[^"\\\n]|\\.)*"'
CALL = re.compile(r"(?<![\w.])t\(")
TEXT = re.compile(rf"(?<![\w.])t\(\s*({STRING}(?:\s*\+\s*{STRING})*)\s*,?")
COMMENT = re.compile(r"/\*\*(?:.|\n)*?\*/|// .*")
PLACEHOLDER = re.compile(r"\{\w+\}")
NO_WORDS = {", ", "{name}: {text}", "{some} of {all}"}
LABELS = {"title", "placeholder", "alt"}
"""Attributes that language.js does not translate, so that the HTML may not have them."""
CLASS = re.compile(r"\bclass: (`[^`]*`|[^,}]*)")
SHOWN = re.compile(r"^\W*[A-Z][a-z]|[A-Za-z]{2},? | [A-Za-z]{2}")
"""What begins with a capital letter, or has a word and a space."""
NO_TEXTS = {
    *("Bearer 0", "Content-Type", "Retry-After"),
    *("Enter", "Yes.", "+Inf", "-Inf", "0 ms", "too large", "too long"),
    *("button, input", "input, select, textarea"),
    *("#language [hreflang=0]", "title, body :not(code, [translate=no])"),
}
IN_ENGLISH = {"examples.js", "snippets.js"}
"""Titles of stories, and programs."""


def chinese() -> dict[str, str]:
    def unique(pairs: list[tuple[str, str]]) -> dict[str, str]:
        assert len(pairs) == len(dict(pairs)), "a text is there twice"
        return dict(pairs)

    file = FOLDER / "chinese.json"
    found: dict[str, str] = json.loads(file.read_bytes(), object_pairs_hook=unique)
    return found


def code(script: Path) -> str:
    return COMMENT.sub("", script.read_text(encoding="utf-8"))


def of_script(script: Path) -> list[str]:
    """The texts that a script passes to t()."""
    found = TEXT.findall(code(script))
    return ["".join(json.loads(part) for part in re.findall(STRING, one)) for one in found]


class Markup(HTMLParser):
    """An element's own text, with a placeholder for each element in it, as language.js reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[dict[str, str | None]] = []
        self.own: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert not LABELS & set(found), f"<{tag}> has a label that is not translated"
        self.texts += [label for label in [found.get("aria-label")] if label]
        if self.own:
            inside = sum(part.startswith("{") for part in self.own[-1])
            self.own[-1].append(f"{{{inside}}}")
        if tag not in {"meta", "link", "input"}:
            self.open.append({**found, "tag": tag})
            self.own.append([])

    def handle_data(self, data: str) -> None:
        if self.own:
            self.own[-1].append(data)

    def handle_endtag(self, tag: str) -> None:
        found, text = self.open.pop(), " ".join("".join(self.own.pop()).split())
        assert found["tag"] == tag
        is_kept = found.get("translate") == "no" or tag in {"code", "script"}
        if not is_kept and re.search(r"[A-Za-z]", PLACEHOLDER.sub("", text)):
            self.texts.append(text)


def of_page(page: Path) -> list[str]:
    markup = Markup()
    markup.feed(page.read_text(encoding="utf-8"))
    return markup.texts


def test_each_text_has_its_chinese_and_no_other_is_kept() -> None:
    texts = {text for script in SCRIPTS for text in of_script(script)}
    assert len(texts) > 150
    texts |= {text for page in PAGES for text in of_page(page)}
    assert sorted(texts) == sorted(chinese())


def test_placeholders_are_the_same() -> None:
    for text, translated in chinese().items():
        wanted = sorted(PLACEHOLDER.findall(text))
        assert sorted(PLACEHOLDER.findall(translated)) == wanted, text


def test_what_is_chinese_is_chinese() -> None:
    """No English, no half-width marks between Chinese letters, a space before and after Latin."""
    for text, translated in chinese().items():
        assert re.search("[一-鿿]", translated) or text in NO_WORDS, text
        assert not re.search(r"[一-鿿][,;:!?()]|[,;:!?()][一-鿿]", translated), translated
        assert not re.search(r"[一-鿿][A-Za-z0-9]|[A-Za-z0-9][一-鿿]", translated), translated


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_a_script_passes_whole_texts_to_t(script: Path) -> None:
    """Neither a variable nor a template, which this file could not look up."""
    calls = len(CALL.findall(code(script)))
    if script.name == "language.js":
        calls -= 2  # its definition, and the labels in the HTML
    assert len(of_script(script)) == calls


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_a_script_shows_no_text_past_t(script: Path) -> None:
    rest = re.sub(r"\$\{[^{}`]*\}", "0", CLASS.sub("", TEXT.sub("", code(script))))
    strings = [one[1:-1] for one in re.findall(rf"{STRING}|'[^'\n]*'|`[^`]*`", rest)]
    found = {one for one in strings if SHOWN.search(one) and "$" not in one} - NO_TEXTS
    assert bool(found) == (script.name in IN_ENGLISH), found
