"""Samples of all arms: engine runs, workers, and the SQLite file that keeps them."""
