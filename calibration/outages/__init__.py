"""Outages found in history, and the processes that bring them."""
