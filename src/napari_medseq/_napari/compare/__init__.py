"""Parts of the *Compare* widget: panes on the screen, overlays, and carrying a mask to another visit."""
