"""Networks that read slabs of a working volume: windows through the network, its answer step by step, and the explanation of it."""
