"""Replaces the arguments of functions in a message by the controls that a user sees."""

from __future__ import annotations

import re

#: an argument as messages name it → the control; the first match counts
CONTROLS = (
    (r"(?:pass )?force=True(?: if the modality is wrong)?", "tick 'also offer models that do not fit' below the model"),
    (r"with series=", "in the field 'series' (Progression, Settings)"),
    (r"give reference=its folder", "open that series, paint on it, and save that; or save as .nii.gz, .nrrd or .mha"),
    (r"choose (the direction|one direction for all): axis=", r"choose \1 in the list 'Direction' (Teach)"),
    (r"register=\"?(\w+)\"?", r"'align visits: \1' (Progression, Settings)"),
)


def in_the_window(message: str) -> str:
    """The message of an error with controls in place of arguments."""
    for pattern, control in CONTROLS:
        message = re.sub(pattern, control, message)
    return message
