"""Commands that manage and make models: models, train, check, teach."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from napari_medseq import files
from napari_medseq.cli import common
from napari_medseq.errors import SettingsError
from napari_medseq.wording import how_many

_NO_PREVIEW = (
    "--preview draws what the network of a config would see; where training configures itself, `check` says what of the data is used, and "
    "--plan-only how."
)


def add(commands: common.Commands) -> None:
    """Add the commands models, train, check and teach."""
    _add_models(commands)
    _add_train(commands)
    _add_check(commands)
    _add_teach(commands)


def _add_models(commands: common.Commands) -> None:
    models = common.add_command(commands, "models", "list, show, add, verify and remove models")
    models.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "show", "add", "verify", "remove"),
        help="what to do; show prints the model's card (default list)",
    )
    models.add_argument(
        "name",
        nargs="?",
        help="the model to show, verify or remove; or the bundle folder, zip file or URL of a model to add",
    )
    models.add_argument("--sha256", help="the SHA-256 checksum of the zip file to add; required for a URL")
    models.add_argument("--rename", metavar="NAME", help="add the model under this name instead of its own")
    common.add_json(models)
    models.set_defaults(run=_models, usage=models.error)


def _add_train(commands: common.Commands) -> None:
    train = common.add_command(
        commands, "train", "train a model and write its bundle; an interrupted training continues where it stopped"
    )
    train.add_argument(
        "config",
        help="a folder of images and labels, a CSV file of their paths, or a YAML or JSON config (data, network, loop, out, ...)",
    )
    train.add_argument(
        "-o", "--out", metavar="FOLDER", help="the bundle folder to write; not with a config, which names it itself"
    )
    train.add_argument(
        "--minutes", type=float, help="the minutes that everything may take (default 60); not with a config"
    )
    train.add_argument(
        "--plan", metavar="FILE.yaml", help="follow this plan, which an earlier training wrote; not with a config"
    )
    train.add_argument(
        "--plan-only",
        action="store_true",
        help="measure the data, print the plan and write it beside --out, but do not train",
    )
    train.add_argument(
        "--patient",
        metavar="REGEX",
        help="a regular expression that finds the patient in the name of a case; '{name}': each case is a patient of its own",
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a single setting, such as folds=5 or modality=CT for a folder, or loop.minutes=5 for a config; the option may be repeated",
    )
    train.add_argument(
        "--preview", metavar="FILE.png", help="only draw what the network would see, to this file; do not train"
    )
    common.add_json(train)
    train.set_defaults(run=_train)


def _add_check(commands: common.Commands) -> None:
    check = common.add_command(
        commands, "check", "say what a training would use of a folder of data, and every doubt about it"
    )
    check.add_argument("data", help="a folder of images and labels, or a CSV file of paths with labels or classes")
    check.add_argument(
        "--patient",
        metavar="REGEX",
        help="a regular expression that finds the patient in the name of a case, as for train",
    )
    check.add_argument(
        "--channels",
        nargs="+",
        default=[],
        metavar="NAME=PATTERN",
        help="the name of a channel, and the pattern of its files, if they lie in a tree of folders",
    )
    check.add_argument(
        "--labels", metavar="PATTERN", help="the pattern of the label files, if they lie in a tree of folders"
    )
    check.add_argument(
        "--task",
        choices=("segmentation", "classification"),
        help="what is learned from a table with both labels and classes (default: segmentation)",
    )
    common.add_json(check)
    check.set_defaults(run=_check)


def _add_teach(commands: common.Commands) -> None:
    teach = common.add_command(commands, "teach", "train a model on one image of which a few slices are labelled")
    teach.add_argument("image", help="an image file or the folder of a series")
    teach.add_argument(
        "labels", help="a label file on the grid of the image, with 0 in the slices that are not labelled"
    )
    teach.add_argument("-o", "--out", required=True, metavar="FOLDER", help="the bundle folder to write")
    teach.add_argument(
        "--start-from", metavar="MODEL", help="the name or the bundle folder of a model from which training starts"
    )
    common.add_frame(teach)
    common.add_settings(teach, "minutes=5")
    common.add_json(teach)
    teach.set_defaults(run=_teach)


def _models(args: argparse.Namespace) -> None:
    from napari_medseq.models import list_models

    for option in ("sha256", "rename"):
        if getattr(args, option) and args.action != "add":
            raise SettingsError(f"--{option} is for `models add`.")
    if args.action == "list" and args.name:
        raise SettingsError(f"`models list` takes no name; see one model with `models show {args.name}`.")
    if args.action != "list":
        if not args.name:
            raise SystemExit(args.usage(f"say which model to {args.action}"))
        _one_model(args)
        return
    infos = list_models()
    rows = [
        {
            "name": i.name,
            "version": i.version,
            "task": i.task,
            "modality": i.modality or "any",
            "along": i.sequence_axis,
            "parameters": f"{i.parameters:,}",
            "description": i.description,
        }
        for i in infos
    ]
    common.answer(
        args, [i.model_dump(exclude={"card"}) for i in infos], common.table(rows) if rows else "no models are installed"
    )


def _one_model(args: argparse.Namespace) -> None:
    """Show, add, verify or remove a model."""
    from napari_medseq.models import install, library

    if args.action == "show":
        info = library.read_info(library.find(args.name))
        common.answer(args, info.model_dump(), info.card or f"{info.name} {info.version}: {info.description}")
    elif args.action == "remove":
        folder = str(install.remove(args.name))
        common.answer(args, {"removed": folder}, f"{folder} is gone")
    else:
        added = args.action == "add"
        adding = {"sha256": args.sha256, "name": args.rename, "progress": common.bar()}
        info = install.add(args.name, **adding) if added else install.verify(args.name)
        text = f"{info.name} {info.version} in {info.folder}: {'installed' if added else 'whole, and it loads'}"
        common.answer(args, info.model_dump(exclude={"card"}), text)


def _train(args: argparse.Namespace) -> None:
    import napari_medseq as ms

    path = Path(args.config)
    if path.is_dir() or path.suffix.lower() == ".csv":
        _train_on_folder(args)
        return
    if not path.exists():
        raise SettingsError(f"{path} is not there; check the path.")
    if path.suffix.lower() not in (".yaml", ".yml", ".json") and args.out:
        raise SettingsError(
            f"{path} is neither a folder of data, nor a CSV file of paths, nor a config (.yaml, .json)."
        )
    if args.out or args.minutes is not None or args.plan or args.patient:
        raise SettingsError(
            f"{path} is a config, which says these itself; --out, --minutes, --plan and --patient are for a folder of data."
        )
    from napari_medseq.training.automatic.config import is_automatic
    from napari_medseq.yaml_text import read_settings

    config = read_settings(path)
    _set(config, common.pairs(args.set))
    if args.preview and is_automatic(config):
        raise SettingsError(_NO_PREVIEW)
    if args.preview:
        from napari_medseq.training import preview

        sheet = preview(config, args.preview, progress=common.bar())
        common.answer(args, {"preview": str(sheet)}, str(sheet))
        return
    if is_automatic(config):
        _train_by_plan(args, config)
        return
    if args.plan_only:
        raise SettingsError(f"{path} says itself how to train; --plan-only is for a folder of data.")
    result = ms.train(config, progress=common.bar())
    if os.environ.get("RANK", "0") == "0":  # only one of several processes prints
        _trained(args, result)


def _set(config: dict[str, Any], values: dict[str, Any]) -> None:
    """Put settings that are given one by one, such as loop.minutes=5, into a config."""
    for name, value in values.items():
        *parts, last = name.split(".")
        inside = config
        for part in parts:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise SettingsError(f"--set {name}: {part} holds no settings.")
        inside[last] = value


def _train_on_folder(args: argparse.Namespace) -> None:
    """Train on a folder of data without a config."""
    if not args.out:
        raise SettingsError("Say where the model is to go: -o FOLDER.")
    if args.preview:
        raise SettingsError(_NO_PREVIEW)
    config: dict[str, Any] = {
        "data": args.config,
        "out": args.out,
        "minutes": 60.0 if args.minutes is None else args.minutes,
    }
    config |= {k: v for k, v in (("plan", args.plan), ("patient", args.patient)) if v}
    _set(config, common.pairs(args.set))
    _train_by_plan(args, config)


def _train_by_plan(args: argparse.Namespace, config: dict[str, Any]) -> None:
    """Print the plan of a training that configures itself, then train, unless only the plan is wanted."""
    import napari_medseq as ms
    from napari_medseq.training import plan_training

    out = files.path_of(str(config.get("out")))
    first = out / "fold-1" if config.get("folds") else out
    path = first.with_name(first.name + ".run") / "plan.yaml"

    def show(plan: object) -> None:
        how = "the same command without --plan-only trains by it" if args.plan_only else "use it by --plan"
        text = f"{plan}\n\nplan: {path} (change it, and {how})\n"
        if sys.stderr.isatty():  # where the progress bar stands
            print(file=sys.stderr)
        print(common.printable(text), flush=True)

    if args.plan_only:
        plan = plan_training(config, progress=common.bar())
        if args.json:
            common.answer(args, {"plan": plan.model_dump(mode="json"), "written": str(path)}, "")
        else:
            show(plan)
        return
    result = ms.train(config, planned=None if args.json else show, progress=common.bar())
    if args.json:
        _trained(args, result)
        return
    print(f"patients learned from: {len(result.patients)}; windows seen: {result.seen}")
    if result.table is None:
        print("no patient was kept back to judge it: look at its results before trusting them")
    elif result.scores is not None:
        print(f"of patients that it has not seen (95 % confidence):\n{common.table(common.rows_of(result.scores))}")
    else:
        print(f"Dice of patients that it has not seen:\n{common.table(common.rows_of(result.table))}")
    print(f"\n{result.model.info.name}: {result.folder}")


def _check(args: argparse.Namespace) -> int:
    from napari_medseq.training.checking import check_data

    channels = dict(_named(c) for c in args.channels)
    checked = check_data(
        Path(args.data),
        patient=args.patient,
        channels=channels or None,
        labels=args.labels,
        task=args.task,
        progress=common.bar(),
    )
    patients = len({row["patient"] for row in checked.rows})
    facts = {"layout": checked.layout.kind, "patients": patients, "cases": checked.rows, "doubts": checked.doubts}
    text = [
        common.table(checked.rows),
        "",
        f"{checked.layout.kind}: {how_many(len(checked.rows), 'case')} of {how_many(patients, 'patient')}",
    ]
    there = {row["case"] for row in checked.rows}
    for name in checked.layout.answers:
        own = [(e, n) for e in checked.layout.entries if e.case in there and (n := e.learned.count(name))]
        what = f"{own[0][0].numbered}s" if own and own[0][0].steps else "cases"
        text.append(f"class {name}: {sum(n for _, n in own)} {what} of {len({e.patient for e, _ in own})} patients")
    text += [f"doubt: {d}" for d in checked.doubts] or ["no doubts"]
    common.answer(args, facts, "\n".join(text))
    return 0


def _named(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    if not (name and equals and pattern):
        raise SettingsError(f"--channels takes NAME=PATTERN, such as FLAIR=*flair*, not {text!r}.")
    return name, pattern


def _trained(args: argparse.Namespace, result: Any) -> None:
    """Print the result of a training."""
    curve = result.curve.to_dict("records")
    info = result.model.info
    facts = {"bundle": str(result.folder), "name": info.name, "parameters": info.parameters, "curve": curve}
    table_rows = curve[-5:]
    if result.scores is not None:
        facts["scores"] = result.scores.to_dict("records")
    if result.table is not None:
        facts["folds"] = table_rows = result.table.to_dict("records")
    common.answer(args, facts, f"{common.table(table_rows)}\n\n{info.description}\n{info.name}: {result.folder}")


def _teach(args: argparse.Namespace) -> None:
    from napari_medseq.training import teach

    settings = {**common.settings(args), "out": args.out}
    if args.start_from:
        settings["start_from"] = args.start_from
    image = common.one_image(args.image, kind="image", by_series=False)
    labels = common.in_frame(common.labels_on(args.labels, image), image, args.frame)
    _trained(args, teach(image, labels, settings, progress=common.bar()))
