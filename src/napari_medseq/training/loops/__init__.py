"""The loops in which networks learn, for sequences and for slabs, and what they stand on: windows, augmentation, losses, the checkpoint."""
