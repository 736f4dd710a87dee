"""Facts of live segments, read without taking part."""
