"""The programs that run a model under evaluation: transformers, vLLM, a service."""
