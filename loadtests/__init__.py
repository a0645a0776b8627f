"""Load tests. Run them from the repository's root."""
