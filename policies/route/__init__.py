"""Routes: which processors a payment may go to, best first. One module a part of the catalog."""
