"""Network architectures, one family per file; ``scenax.models.create_model`` makes them by name."""
