"""Several canvases in one viewer: twins of layers that show the same place, with one brush and linked windows."""
