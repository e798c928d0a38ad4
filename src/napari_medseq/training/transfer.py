"""Transfer learning: build the network of a config and take over the weights of another model."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from napari_medseq.errors import SettingsError
from napari_medseq.models import load_model, networks
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.training.config import TrainConfig
from napari_medseq.training.tables import read_table


def definition(c: TrainConfig) -> dict[str, Any]:
    """The network of a config, with the classes and channels that the config asks for.

    Raises
    ------
    SettingsError
        If the network says another number of classes or channels.
    """
    d = dict(c.network)
    if c.start_from is not None and "network" not in c.model_fields_set:
        d = {**load_model(c.start_from).network_definition}
        d.pop("classes", None)
        d.pop("in_channels", None)
        d.pop("tabular", None)
    arguments = {"in_channels": max(1, len(c.channels))}
    if c.task == "segmentation":
        arguments["classes"] = max(c.classes) + 1
    elif c.task == "classification":
        arguments["classes"] = len(c.classes)
        if c.table is not None:
            arguments["tabular"] = len(read_table(Path(c.table), c.values).names)
    builder = networks.NETWORKS.get(str(d.get("_target_")))
    parameters = set(inspect.signature(builder).parameters) if builder is not None else set()
    for key, value in arguments.items():
        if d.get(key, value) != value:
            raise SettingsError(f"network.{key} is {d[key]}, but the config needs {value}; leave it out, it follows.")
        if key in parameters:
            d[key] = value
        elif key == "tabular":
            raise SettingsError(f"{d.get('_target_')} takes no values from a table; leave table and values out.")
    return d


def take_over(network: nn.Module, other: nn.Module) -> int:
    """Copy the weights of `other` whose names and shapes agree; returns how many tensors did."""
    own, source = network.state_dict(), other.state_dict()
    shared = {k: v for k, v in source.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(own | shared)
    return len(shared)


def prepared(c: TrainConfig, d: dict[str, Any]) -> SequenceNetwork:
    """The network of definition `d`, started as the config says.

    Raises
    ------
    SettingsError
        If the bundle that it is to start from shares no weight with it.
    """
    network = networks.build_sequence_network(d)
    if c.start_from is not None and not take_over(network, load_model(c.start_from).network):
        raise SettingsError(
            f"{c.start_from} shares no weight with {d['_target_']}; start from a bundle of the same kind of network, or "
            "leave network out to continue with the bundle's own."
        )
    if c.task == "segmentation":  # where the classes' numbers have gaps; no loss ever asks these outputs
        network.silence([k for k in range(1, max(c.classes)) if k not in c.classes])
    return network
