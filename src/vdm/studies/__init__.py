"""Studies of single research questions; only the commands import them."""
