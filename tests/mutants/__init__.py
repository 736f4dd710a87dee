"""The rules that live in the binding and in Python, each left out in turn: `table.toml`, and `make mutants`."""
