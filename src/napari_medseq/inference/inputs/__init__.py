"""What a network is given: the images of a call, brought from their own grids to the steps of the network, and the way back for labels."""
