"""Intervals, power, sample size, stopping rules and their corrections: nothing here knows of payments or logs."""
