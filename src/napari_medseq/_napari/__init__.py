"""Readers, writers and widgets: the only place that imports napari, qtpy or magicgui at module level."""
