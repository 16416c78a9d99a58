"""What every part of Scenax shares: contracts, registry, configuration, FLOPs, pictures.

Import the module you need (``from scenax.common import registry``); nothing is loaded before.
"""
