"""The exception family: everything the package raises or warns about on purpose.

Each message says what is wrong, where, and what to do about it; the command line prints it as one line and
napari shows it as a notification, so it never needs a traceback to be understood.
"""

from __future__ import annotations


class MedseqError(Exception):
    """Something could not be done. The message names what, where and the way out."""


class ReadError(MedseqError):
    """A file or folder could not be opened."""


class WriteError(MedseqError):
    """A result could not be written."""


class GeometryError(MedseqError, ValueError):
    """Positions in space are missing, contradictory or do not fit together."""


class ModelError(MedseqError):
    """A model bundle is unsafe, broken, or does not fit the images."""


class SettingsError(MedseqError, ValueError):
    """A setting has a value that cannot be used."""


class RegistrationError(MedseqError):
    """Two images could not be aligned well enough to be trusted."""


class DeviceError(MedseqError):
    """The device asked for is not there or cannot be used."""


class OperationCancelled(MedseqError):
    """The caller's ``cancelled()`` returned True; nothing was written."""


class MedseqWarning(UserWarning):
    """Something was done, but with a doubt that the user should know about."""


class ReadWarning(MedseqWarning):
    """A file was read with a doubt; the text also stands in ``ImageSequence.warnings``."""
