"""Faults done to runs on purpose, each followed by the question whether anything was lost.

`python -m tests.faults` (`make faults`) does all of them, the tests in this package a few of each kind.
"""
