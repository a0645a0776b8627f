"""Feedback on answers, and what it says about the models."""
