"""The service, its parts and its peers against what the hardware allows."""
