"""From a reader and a story to token ids, and from label log-probabilities to an answer.

Pure: no web framework, no engine. The service and the training package both import it, so a model
is served with exactly the prompts it was trained on.
"""
