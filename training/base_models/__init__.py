"""Base models: where they come from."""
