"""Operations on voxels that several packages share: resampling onto grids and the foreground of an image."""
