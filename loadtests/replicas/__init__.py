"""Measures Ray Serve with several replicas: throughput, failures and updates under load."""
