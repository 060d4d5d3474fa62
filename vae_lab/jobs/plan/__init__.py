"""What a line would train and what that takes, before it does."""
