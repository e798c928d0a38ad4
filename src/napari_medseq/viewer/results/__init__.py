"""Results in a viewer: shown as layers, lesions followed and corrected, results saved and opened again."""
