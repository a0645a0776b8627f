"""Finding candidates for a reader among the stories that the store knows.

The catalogue holds these stories in memory, and a thread keeps it up with the store. Candidates are
the nearest neighbours of what the reader clicked, what is popular right now, and new stories.
"""
