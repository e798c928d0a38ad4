"""Images as layers: layer data and back, where layers are drawn and how they look, and the layers of a whole study."""
