"""Losses. Each returns one value per example; ``reduction`` weights, masks and averages them."""
