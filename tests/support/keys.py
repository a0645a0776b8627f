"""Keys of a guarded service, for tests."""

import hashlib
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from app.settings import ApiKey, Limits, Settings
from tests.support.models import SMOLLM2

SECRETS = {
    **{"predict": "fp-reader", "events": "fp-site", "admin": "fp-boss"},
    **{"slow": "fp-slow", "twin": "fp-twin"},
}


def key(name: str, scope: str, **fields: Any) -> ApiKey:
    digest = hashlib.sha256(SECRETS[name].encode()).hexdigest()
    return ApiKey.model_validate({"name": name, "sha256": digest, "scopes": [scope], **fields})


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[name]}"}


def guarded(tmp_path: Path) -> Settings:
    """A fixture: with each of the keys, a page's origin, and low limits."""
    return Settings(
        model=SMOLLM2,
        state=tmp_path / "state",
        api_keys=(
            key("predict", "predict"),
            key("events", "events"),
            key("admin", "admin"),
            key("slow", "predict", requests_per_minute=3),
            key("twin", "predict", requests_per_minute=3),
        ),
        cors_origins=("https://news.example",),
        limits=Limits(max_stories=2, max_title_chars=20, max_body_bytes=2000, max_bulk_bytes=4000),
    )


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("frontpage_refused_total", {"reason": reason}) or 0.0
