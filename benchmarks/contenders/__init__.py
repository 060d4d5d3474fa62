"""The same work done in different ways, each a program of its own: an epoch of a small VAE on MNIST.

All but `this_lab` are written as a user would write them and never import the lab.
"""
