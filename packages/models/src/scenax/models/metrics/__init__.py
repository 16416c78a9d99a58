"""Metrics. Each returns one value per example; ``losses.reduction`` sums them."""
