"""A run's folder, and what is compared in it: policies with each other, with history's outcomes, with another run."""
