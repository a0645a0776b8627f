"""API keys: a secret that is stored nowhere, and its hash for the settings."""

import hashlib
import secrets

from app.settings import ApiKey


def new_key(name: str, *scopes: str, requests_per_minute: int | None = None) -> tuple[str, ApiKey]:
    """Create a key; returns the secret, which is stored nowhere, and its entry for the settings."""
    secret = "fp-" + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    fields = {"name": name, "sha256": digest, "scopes": scopes}
    return secret, ApiKey.model_validate(fields | {"requests_per_minute": requests_per_minute})
