"""Many runs at once from a server: of `vae-lab server` by routes of its own, of any other in parts.

MLflow's API makes an object of every parameter, metric and tag before it writes it down: 4.5 ms of the server
for a run, 45 s for 10,000. What `app` answers beside it comes straight from the database's rows.
"""
