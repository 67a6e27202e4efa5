"""`composer fit`, `validate`, `test` and `predict`: jsonargparse and Lightning."""
