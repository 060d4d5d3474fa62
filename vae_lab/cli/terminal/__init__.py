"""What the commands say and how they end: lines, lists, errors, exit codes, streams that last."""
