"""The model of editing: what a person painted on which layer, undo of all of it, and what is not saved yet."""
