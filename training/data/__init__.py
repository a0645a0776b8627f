"""Click logs, and the prepared folders that they become."""
