"""Configurations of classification runs, one file each."""
