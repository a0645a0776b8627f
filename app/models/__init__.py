"""The models that requests can name, their files, and changes to them while serving."""
