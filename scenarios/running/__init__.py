"""Runs what a scenario describes: replications on local processes, checkpoints, the run's folder."""
