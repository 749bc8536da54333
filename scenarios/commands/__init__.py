"""The commands of routesim, one module each."""
