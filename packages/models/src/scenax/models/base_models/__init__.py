"""A task: any architecture that fits, with a loss and metrics."""
