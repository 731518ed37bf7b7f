"""From a training run to a bundle: coder tables, model card, comparison with the published bundle."""
