"""Attempt log → figures: the columns they are computed from, the formulas, and the tallies that add."""
