"""Measurements of zeroslot and of what else there is: see `__main__`."""
