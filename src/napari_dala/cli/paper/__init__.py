"""Commands that ask what the paper asks."""
