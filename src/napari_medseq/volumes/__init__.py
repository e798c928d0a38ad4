"""What several rooms do to voxels: resampling grids and the foreground of an image."""
