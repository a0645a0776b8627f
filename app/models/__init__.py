"""Which models can be asked for, where their files are, and how they change while serving."""
