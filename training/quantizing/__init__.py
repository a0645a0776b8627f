"""Models with weights of 8 bits, in the format of compressed-tensors."""
