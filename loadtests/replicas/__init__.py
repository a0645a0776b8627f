"""Ray Serve with several replicas: throughput, failures, updates."""
