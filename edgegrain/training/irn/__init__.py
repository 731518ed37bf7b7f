"""Training of IRN and IRN+ ([IRN])."""
