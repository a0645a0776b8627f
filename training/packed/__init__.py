"""Impressions as packed rows of tokens, and what a model is asked on them."""
