"""Commands for those who make bundles: training, publishing, export, evaluation, the papers; most need an extra."""
