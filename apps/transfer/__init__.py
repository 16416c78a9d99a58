"""Transfer evaluation: what a model's features are worth on another dataset."""
