"""Models measured against each other, and the page that shows it."""
