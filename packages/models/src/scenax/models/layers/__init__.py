"""Layers that several architectures share. They are leaves: none holds another."""
