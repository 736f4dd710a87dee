"""The tests; a package only so that `tests.children` means these and no other."""
