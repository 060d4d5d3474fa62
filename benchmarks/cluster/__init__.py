"""Several machines simulated in one, with Ray, a store and SLURM, all real: `python -m benchmarks.cluster`.

A line a proof. Network namespaces and SLURM's daemons take root; without it a proof says what it lacks.
"""
