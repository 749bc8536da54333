"""A scenario's file: its schema, and how it is read, overridden, checked and told again in full."""
