"""Retries: whether, when and where a failed payment is tried again. One module a part of the catalog."""
