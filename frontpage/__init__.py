"""The command `frontpage`, and a client of the service in Python (frontpage/client.py)."""
