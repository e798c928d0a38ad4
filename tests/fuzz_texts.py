"""Bounded fuzzing of what is text or a folder of texts: bundles, YAML and JSON of settings, tables of patients and visits, records.

Each part is made by code, damaged by a numbered seed (bytes, or a word replaced by one that readers trip over), and read by what reads it
in use. Allowed: an answer, or one `MedseqError`. Not allowed: any other exception, more than `SLOW` seconds of the processor, or more
memory than `fuzz_headers.ROOM`.

    python -m tests.fuzz_texts [--seconds 60] [--seed 0]
"""

from __future__ import annotations

import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import napari_medseq as ms
from napari_medseq import preprocessing, record
from napari_medseq.cohort.patients import find_patients
from napari_medseq.io.sessions import read_sessions
from napari_medseq.training.automatic.plan import Plan, make_plan
from napari_medseq.training.config import read_config
from napari_medseq.training.tables import read_rows
from napari_medseq.yaml_text import read_settings
from tests.fuzz_headers import SLOW, bound_memory, command, damaged, report
from tests.tiny import write_tiny_bundle
from tests.unit.models.foreign import UNET, write_foreign
from tests.unit.progression.masks import A, B, mask
from tests.unit.training.automatic.fingerprints import facts

#: words that readers of YAML, JSON and CSV trip over, or that cost more than they look
NASTY = (
    b"null", b"[]", b"{}", b"-1", b"0", b"1e999", b"NaN", b"-.inf", b"true", b"", b"!!bool x", b"!!int ''", b"!!timestamp x", b"!!binary x",
    b"!!python/object/apply:os.system [true]", b"2020-99-99", b"&a [*a]", b"*a", b"<<: 1", b"? [a]", b"'", b'"', b"[" * 4000, b"{" * 4000,
    b"a: " * 900, b"- " * 2000, b"9" * 5000, b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"../../x", b"@network_def", b"$1/0", b'"=1+1"', b"\t",
    b"99999999999", b'{"_target_": "os.system"}', b"[9000, 9000, 9000]",
)  # fmt: skip
_WORD = re.compile(rb"[\w.+-]+|[\[\]{}:,\"]")


@dataclass(frozen=True)
class Part:
    """A file that is damaged, in a folder that is whole otherwise.

    Attributes
    ----------
    top : str
        The folder, or the file itself, below that of the corpus.
    file : str
        The file, below `top`; "" where `top` is it.
    read : callable
        What reads `top`.
    """

    top: str
    file: str
    read: Callable[[Path], object]


def corpus(folder: Path) -> dict[str, Part]:
    """Sound parts, written to `folder`: name → part."""
    write_tiny_bundle(folder / "bundle")
    write_foreign(folder / "foreign", UNET)
    inference = folder / "foreign" / "configs" / "inference.json"
    inference.rename(inference.with_suffix(".yaml"))  # JSON is YAML
    (folder / "recipe.yaml").write_text(
        "steps:\n- kind: resample\n  spacing: [1, 1, 2.5]\n- kind: percentile\n  lower: 1\n  upper: 99\n",
        encoding="utf-8",
    )
    shutil.copy(folder / "recipe.yaml", folder / "settings.yaml")
    (folder / "recipe.json").write_text(
        '{"steps": [{"kind": "resample", "spacing": [1, 1, 2]}, "zscore"]}', encoding="utf-8"
    )
    (folder / "training.yaml").write_text(
        "name: m\ndata: [a, b]\nout: o\nhold_out: [c]\nclasses: {1: lesion}\nnetwork: {_target_: RecurrentUNet, widths: [4, 8]}\n"
        "loop: {iterations: 3, size: [32, 32]}\n",
        encoding="utf-8",
    )
    make_plan(facts(), seconds=600, bfloat16=True).save(folder / "plan.yaml")
    for name in ("a", "b"):
        (folder / "patients" / name).mkdir(parents=True)
    (folder / "patients" / "patients.csv").write_text("study,name\na,one\nb,two\n", encoding="utf-8")
    (folder / "patient").mkdir()
    (folder / "patient" / "sessions.tsv").write_text(
        "session_id\tacq_time\nses-1\t2020-01-02\nses-2\t2021-03-04T10:00:00\n"
    )
    (folder / "classes.csv").write_text("patient,visit,class\na,1,benign\nb,2,malignant;cyst\n", encoding="utf-8")
    ms.track([mask(A, B), mask(A)]).save(folder / "result")
    shutil.copy(folder / "result" / "run.json", folder / "record.json")
    return {
        "bundle, metadata": Part("bundle", "configs/metadata.json", _load_and_look),
        "bundle, inference": Part("bundle", "configs/inference.json", _load_and_look),
        "bundle, weights": Part("bundle", "models/model.safetensors", _load_and_look),
        "bundle of others, YAML": Part("foreign", "configs/inference.yaml", _load_and_look),
        "bundle of others, metadata": Part("foreign", "configs/metadata.json", _load_and_look),
        "recipe, YAML": Part("recipe.yaml", "", preprocessing.load),
        "recipe, JSON": Part("recipe.json", "", preprocessing.load),
        "settings": Part("settings.yaml", "", read_settings),
        "training": Part("training.yaml", "", read_config),
        "plan": Part("plan.yaml", "", Plan.read),
        "table of patients": Part("patients", "patients.csv", lambda p: find_patients(p / "patients.csv")),
        "table of visits": Part("patient", "sessions.tsv", lambda p: read_sessions(p, of_session=False)),
        "table of classes": Part("classes.csv", "", lambda p: read_rows(p, ("patient", "class"))),
        "record": Part("record.json", "", record.read_json),
        "result, record": Part("result", "run.json", ms.Progression.load),
        "result, lesions": Part("result", "lesions.csv", ms.Progression.load),
    }


def _load_and_look(folder: Path) -> object:
    return ms.load_model(folder).network


def spoiled(sound: bytes, rng: random.Random) -> bytes:
    """A text with faults of its bytes, or with one to three of its words replaced, doubled or left out."""
    words = list(_WORD.finditer(sound[:65536]))
    if rng.random() < 0.4 or not words:
        return damaged(sound, rng)
    for found in sorted(rng.sample(words, min(len(words), rng.randint(1, 3))), key=lambda m: -m.start()):
        new = rng.choice(NASTY) if rng.random() < 0.8 else rng.choice((b"", found[0] * 2, b" " + found[0]))
        sound = sound[: found.start()] + new + sound[found.end() :]
    return sound


def complaint(read: Callable[[Path], object], path: Path) -> str:
    """What is wrong with how a damaged part is answered; "" if nothing is."""
    started = time.process_time()  # no part waits for anything, and machines that test are busy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(path)
        except ms.MedseqError:
            pass
        except Exception:
            return traceback.format_exc()
    taken = time.process_time() - started
    return f"took {taken:.1f} s of the processor" if taken > SLOW else ""


def run(seconds: float, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Damage and read until the time is over; every part is tried once at least.

    Returns
    -------
    counts, complaints
        Files tried, by part; and what was wrong, each with its seed.
    """
    counts: Counter[str] = Counter()
    complaints: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        parts = corpus(Path(scratch))
        sound = {name: (Path(scratch) / p.top / p.file).read_bytes() for name, p in parts.items()}
        names, stop = sorted(parts), time.monotonic() + seconds
        while time.monotonic() < stop or len(counts) < len(names):
            name = names[seed % len(names)]
            wrong = one(parts[name], Path(scratch), sound[name], random.Random(seed))
            counts[name] += 1
            if wrong:
                complaints.append(f"seed {seed}, {name}: {wrong}")
            seed += 1
    return counts, complaints


def one(part: Part, folder: Path, sound: bytes, rng: random.Random) -> str:
    """Damage one part, read it, and make it whole again."""
    path = folder / part.top / part.file
    try:
        path.write_bytes(spoiled(sound, rng))
        return complaint(part.read, folder / part.top)
    finally:
        path.write_bytes(sound)


def unreadable(parts: Mapping[str, Part], folder: Path) -> list[str]:
    """Parts that are refused although they are sound, which would make the rest a test of nothing."""
    refused = []
    for name, part in parts.items():
        try:
            part.read(folder / part.top)
        except ms.MedseqError as error:
            refused.append(f"{name}: {error}")
    return refused


def main() -> int:
    """Fuzz, print what was found, and say by the exit status whether anything was."""
    options = command(__doc__).parse_args()
    bound_memory()
    return report("texts", *run(options.seconds, options.seed))


if __name__ == "__main__":
    sys.exit(main())
