"""Frontpage's service: predicts whether a reader will click a news story."""

__version__ = "0.1.0"
