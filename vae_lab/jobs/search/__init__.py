"""Searches: what is tried next, how far each run is trained, and what was learned of it."""
