"""Training: one loop, shared losses and optimizers, and a folder of recipes and trainers per family."""
