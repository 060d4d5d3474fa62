"""The page of a study: its contents read from the store, and their HTML and Markdown."""
