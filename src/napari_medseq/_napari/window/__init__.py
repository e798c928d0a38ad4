"""Services for a whole window: opening what is dropped on it, saving, autosave, and how its sliders and docks are arranged."""
