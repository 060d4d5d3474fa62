"""What runs say together: comparison, statistics, claims and verdicts, status, plan, latent size."""
