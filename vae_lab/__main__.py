"""`python -m vae_lab`: the command line, where its script is not on the path."""

from vae_lab.cli import main

main()
