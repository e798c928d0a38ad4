"""Masks: editing tools, a first mask from hints, limits of the brush, copying, comparing and saving."""
