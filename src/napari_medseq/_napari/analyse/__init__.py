"""Parts of the *Analyse* widget: the options of a model, and the probabilities of classes per slice."""
