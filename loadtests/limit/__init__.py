"""Measures the service, its layers and its peers against what the hardware allows."""
