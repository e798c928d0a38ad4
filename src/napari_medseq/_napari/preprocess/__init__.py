"""Parts of the *Preprocess* widget: the list of steps, the live preview, and what a recipe is applied to."""
