"""Reading DICOM: any number of files in any mixture become one `ImageSequence` per image.

`headers` parses one file, `frames` splits it into planes, `stacks` sorts planes into images, `decoding` decodes a
frame, `pixels` rescales frames into an array, and `series` puts everything together.
"""
