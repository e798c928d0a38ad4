"""Parts of the *Teach* widget: a first mask from hints, training on painted slices, and further training sets."""
