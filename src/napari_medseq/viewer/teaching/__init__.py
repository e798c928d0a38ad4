"""Propagating and teaching: answers from a few painted slices, their corrections, and training on what was painted."""
