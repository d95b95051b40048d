"""What the channel attention does: its gates looked at, replaced, and left out of training."""
