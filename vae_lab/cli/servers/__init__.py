"""MLflow's server as a process of a command: the team's with its users, and the UI's."""
