"""The parts of the suite, one module each; `tests.bench.suite` has them by name."""
