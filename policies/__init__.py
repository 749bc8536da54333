"""What a router decides: where a payment goes, with which message, and what happens after a failure.

A policy sees what a real router sees at that moment and nothing else: this package imports nothing
of the simulator, so no policy can reach the truth.
"""
