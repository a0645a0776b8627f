"""What writes files of the repository: `make openapi` and the README's picture."""
