"""Does a model predict a history? Three examinations judged as one family, and the pytest plugin."""
