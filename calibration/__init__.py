"""From the merchant's history to the attempt log, and from the log to a model with its uncertainty."""
