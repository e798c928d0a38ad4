"""Painted slices as prompts: a window follows each object, and a prompted network carries it from the painted steps to all others."""
