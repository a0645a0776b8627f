"""Frontpage's service: predicts whether a reader will click a news story."""
