"""Image classification, end to end. Copy this folder to start a project of your own."""
