"""API keys: a secret that is kept nowhere, and what the settings hold of it."""

import hashlib
import secrets

from app.settings import ApiKey


def new_key(name: str, scope: str, requests_per_minute: int | None = None) -> tuple[str, ApiKey]:
    """The secret, which is kept nowhere, and what the settings need to know of it."""
    secret = "fp-" + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    fields = {"name": name, "sha256": digest, "scopes": [scope]}
    return secret, ApiKey.model_validate(fields | {"requests_per_minute": requests_per_minute})
