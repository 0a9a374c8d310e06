"""Tests, and the programs that they start."""
