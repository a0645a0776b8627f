"""Engines that score prompts: vLLM's, the real one, and a fake for tests of all around it."""
