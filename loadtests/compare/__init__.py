"""Variants of a model or service side by side, under Locust's load."""
