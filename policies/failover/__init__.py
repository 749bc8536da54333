"""Failover: which processors are passed over, and how they are taken back. One module a part of the catalog."""
