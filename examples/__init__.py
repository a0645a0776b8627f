"""Scripts to start from, a small invented data set, and a simulated site."""
