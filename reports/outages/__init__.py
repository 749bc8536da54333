"""What outages do to a policy: which attempts they hit, when processors were shut out, which payments were lost."""
