"""One run: in training, its record, what it leaves, and measures that are added later."""
