"""Training of prompted networks, which carry what is painted to all other steps: examples, simulated prompts, adaptation to one image."""
