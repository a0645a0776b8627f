"""The ranker: trees over everything that is known of a reader and their candidates.

`features` computes what the trees see, for training and for serving alike. `ranker` loads a fitted
ranker's files and predicts. Neither needs a web framework or an engine.
"""
