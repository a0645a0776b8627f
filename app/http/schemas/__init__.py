"""The wire types of our own routes and of the list of models, one module a topic.

Chat and completions use vLLM's types. Those of /experiments are in app/feedback/figures.py.
"""
