"""Many runs at once, through a server that `vae-lab server` started: questions, answers and both ends.

MLflow's API makes an object of every parameter, metric and tag before it writes it down: 4.5 ms of the server
for a run, 45 s for 10,000. What `app` answers beside it comes straight from the database's rows.
"""
