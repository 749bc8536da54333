"""History in: sources, profiles and queries, staging and cleaning, to an attempt log that can be trusted."""
