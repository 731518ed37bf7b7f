"""Training: pictures, losses, stages, and what is fitted to their results."""
