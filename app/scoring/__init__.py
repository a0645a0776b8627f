"""Building prompts from readers and stories, and predictions from label log-probabilities.

This package needs neither a web framework nor an engine. The service and the training package both
import it, so that a model is served with exactly the prompts it was trained on.
"""
