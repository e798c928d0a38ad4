"""From the output of a network to labels: it is checked, averaged over several models, and post-processed."""
