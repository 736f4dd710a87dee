"""Instruction counts of the hot path, held to a checked-in baseline."""
