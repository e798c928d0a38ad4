"""Where and how a network is run: the device, the memory that is needed, the numerical precision, and workers on other machines."""
