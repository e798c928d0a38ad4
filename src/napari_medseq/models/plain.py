"""The types of a bundle's configuration: plain values that are read and never executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: a value of a JSON file
Plain = str | int | float | bool | None | Sequence["Plain"] | Mapping[str, "Plain"]
#: a network as ``{"_target_": name, **arguments}``, or a bundle's other settings
Definition = Mapping[str, Plain]
