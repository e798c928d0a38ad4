"""Long jobs outside of the thread of the window, with progress and cancel, and work that is done piece by piece."""
