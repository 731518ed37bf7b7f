"""The authors' checkpoints: names and shapes of their tensors, and the bundles made from them."""
