"""Measures how the cost of /rank grows."""
