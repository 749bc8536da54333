"""What people run: scenarios, the runner, the command line, and the gallery of annotated examples."""
