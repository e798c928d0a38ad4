"""DICOM: any number of files, mixed as they come, to one `ImageSequence` per image.

`headers` parses one file, `frames` takes it apart into planes, `stacks` sorts planes into images, `pixels` decodes,
`series` puts it together.
"""
