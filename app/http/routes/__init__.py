"""HTTP handlers: each turns a wire type into a call of the recommender, and back."""
