"""Tests of slots: what is decided, and the shell libraries run for real."""
