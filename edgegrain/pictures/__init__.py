"""Pictures for training and evaluation: reading, packing, shards, sheets."""
