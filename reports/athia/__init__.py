"""Rows for the serving platform's tables (ATHIA_*), made from a simulated run."""
