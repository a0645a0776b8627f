"""What readers did with the answers, and what that says of the models."""
