"""The tests; tests/lab/ also holds what starts real frontends."""
