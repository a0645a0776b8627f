"""Programs that write files of the repository: `make openapi` and the documents' pictures."""
