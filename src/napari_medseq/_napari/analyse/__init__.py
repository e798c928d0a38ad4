"""Parts of the *Analyse* widget."""
