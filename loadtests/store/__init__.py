"""Measures what the store costs, how many events it takes, and how soon others see them."""
