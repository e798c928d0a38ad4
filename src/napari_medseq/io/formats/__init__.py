"""One module per file format that is not DICOM. Format libraries are loaded only when a file of theirs is opened."""
