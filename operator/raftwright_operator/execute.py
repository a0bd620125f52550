"""Does one action."""
