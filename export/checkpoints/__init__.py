"""The authors' checkpoints: how they name and shape their tensors, and the bundles that are made of them."""
