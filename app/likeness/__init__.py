"""How much a story is like what a reader has clicked: sentence vectors, cosines and the tower.

`encoder` alone needs PyTorch; everything that is computed for each request is NumPy.
"""
