"""What must repeat the version, since it cannot read app/__init__.py, repeats it right."""

import re

from app import __version__
from tests.support.models import ROOT


def test_the_images_labels_name_the_version() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^ARG VERSION=(.*)$", dockerfile, re.M)) == {__version__}


def test_the_changelogs_newest_release_is_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, re.M)
    assert headings[0] == ("Unreleased", "")
    newest, day = headings[1]
    assert newest == __version__
    assert day, "a release has a date"
