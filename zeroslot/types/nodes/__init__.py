"""The kinds of nodes: what the bytes of a field mean."""
