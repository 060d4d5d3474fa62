"""From a config to finished runs: the grid of a multirun, its workers, one run and what it leaves.

- `job`: one configuration, checked and named; `commands` and `environment`: what its record says of how it
  was started; `grammar`: values as Hydra reads them; `progress`: what is shown meanwhile.
- `parts`: what a config names, built and tried.
- `runs`: one run, its record and what it leaves.
- `crews`: who trains, threads of this process or processes of Ray.
- `lines`: what one line trains, a single run or a multirun.
- `plan`: what a line would train, and what that takes.
- `search`: the best point of a space.
"""
