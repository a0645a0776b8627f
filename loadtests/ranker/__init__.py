"""Measures how long the ranker takes, and what its live figures cost."""
