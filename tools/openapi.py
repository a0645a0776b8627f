"""Writes the service's OpenAPI description: `python -m tools.openapi FILE` (`make openapi`)."""

import json
import sys
from pathlib import Path

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = ROOT / "docs" / "openapi.json"


def description() -> str:
    """The description as JSON, from an application on the fake engine."""
    app = create_app(Settings(model=ROOT / "models" / "smollm2-135m-instruct"), FakeEngine())
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(description(), encoding="utf-8")
    print(f"wrote {sys.argv[1]}")
