"""Training of the network that enlarges restored pictures."""
