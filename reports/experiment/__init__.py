"""A live test as simulated: its daily looks, the rules asked at each, and the figures and advice over many tests."""
