"""Parts of the *Teach* widget: a first mask from hints, a model trained on painted slices, and training on several patients."""
