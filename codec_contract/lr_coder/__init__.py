"""The lossless, integer-only coder of LRs (``docs/lr_coder.md``)."""
