"""Engines that score prompts: the real one on vLLM, and a fake for testing everything else."""
