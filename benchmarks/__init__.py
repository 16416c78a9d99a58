"""What every architecture costs, commit by commit: asv reads the modules of this package."""
