"""Configurations of transfer evaluations, one file each."""
