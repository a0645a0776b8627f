"""What the ranker knows of a request besides the language model's score, gathered while the engine
is at work: live figures, vectors of titles, the reader's past."""
