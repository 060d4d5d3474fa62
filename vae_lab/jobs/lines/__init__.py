"""What one line trains: a single run, or a multirun from its grid to its parent run."""
