"""What only the form of GRAIN in its paper has: the float encoder, and the checkpoints of its authors."""
