"""HTTP handlers. Each converts its request, calls a part of the service and converts the result."""
