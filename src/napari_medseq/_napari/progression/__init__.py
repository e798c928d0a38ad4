"""Parts of the *Progression* widget: the result with its table, plot, corrections and response, and jobs on it."""
