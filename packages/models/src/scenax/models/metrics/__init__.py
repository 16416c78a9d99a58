"""Metrics: functions on devices whose sums add up, and accumulators on the host for the others.

Functions return one value per example, which ``losses.reduction`` sums, or sums by class.
"""
