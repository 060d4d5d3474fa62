"""From a config to finished runs: the grid of a multirun, its workers, one run and what it leaves."""
