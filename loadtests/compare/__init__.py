"""Compares variants of a model or service under a load that Locust sends."""
