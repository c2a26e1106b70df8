"""Rate caps: upper limits of the learning rate that carry a theorem."""
