"""Measures what training costs, and how long preparing its data takes."""
