"""A commented file of variables with every setting, to start one's own from.

`python -m tools.settings_file docs/operations/settings.env` writes it.
"""

import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

from app.settings import Settings
from tools.openapi import ROOT
from tools.settings_table import kind, settings, text_of

PAGE = "docs/operations/settings.env"
DOCUMENT = ROOT / PAGE
HEAD = f"""\
# All settings of the service with their defaults, written by
# `python -m tools.settings_file {PAGE}`.
#
# Copy the file, and take the # away before what you change. A variable without a value here is not
# set by default. A shell (`set -a; . ./frontpage.env`), Docker (`--env-file`) and systemd
# (`EnvironmentFile=`) read it; for a shell, put JSON into '…'.
#
# Secrets had better be files, in a folder that FRONTPAGE_SECRETS names.
"""
WIDTH = 98


def document() -> str:
    """The whole file."""
    found = settings(Settings.model_json_schema())
    return HEAD + "".join(entry(name, field) for name, field in found)


def entry(name: str, field: dict[str, Any]) -> str:
    """A setting's description, its kind, and the line that sets it to its default."""
    text = f"{field.get('description', '')} ({kind(field).replace('`', '')})".strip()
    comment = "".join(f"# {line}\n" for line in wrap(text, WIDTH, break_on_hyphens=False))
    variable = f"FRONTPAGE_{name.replace('.', '__').upper()}"
    default = field.get("default")
    return f"\n{comment}#{variable}={'' if default is None else text_of(default)}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
    print(f"wrote {sys.argv[1]}")
