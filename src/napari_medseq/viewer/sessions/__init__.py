"""Sessions: everything that is open, saved in a folder and opened again, also after a crash."""
