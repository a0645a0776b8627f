"""Keeping the live figures: every instance counts what any instance has learned."""
