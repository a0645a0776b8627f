"""Frontpage on Ray Serve."""
