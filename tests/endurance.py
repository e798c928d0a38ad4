"""Kill `run`, `cohort` and `train` at random points, go on, and compare with what an undisturbed run gives, byte by byte.

``python -m tests.endurance --kills 50`` (``make endurance``). Each job runs in a process that was forked after all imports (those that a
first run made) and that is killed at a random one of its openings, renamings and removals of files, then again to its end. Times in
records do not count.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import napari_medseq as ms
from tests.balls import write_ball_study
from tests.tiny import write_tiny_bundle

JOBS = ("run", "cohort", "train")
_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir")
#: what says how long something took, or whether it was there already
_WITH_TIMES = ("cohort.csv", "cohort.html")


def jobs(folder: Path, model: Path) -> dict[str, Callable[[Path], object]]:
    """Each job as a function of where it writes to; what it reads is made in `folder`."""
    from tests.integration.training.folders import config, write

    write_ball_study(folder / "patients" / "a")
    write_ball_study(folder / "patients" / "b", visits=1)
    write(folder / "training")
    return {
        "run": lambda out: ms.run(folder / "patients" / "a", model, out=out / "result", register="none"),
        "cohort": lambda out: ms.run_cohort(
            folder / "patients", model, out / "cohort", register="none", workers=0, reports=False
        ),
        "train": lambda out: ms.train(config(folder / "training", out / "model", loop={"checkpoint_seconds": 0.001})),
    }


class Done(NamedTuple):
    """What a job that came to its end did: how many events there were, and which modules are loaded now."""

    events: int
    modules: Sequence[str]


def in_a_process(job: Callable[[Path], object], out: Path, kill_at: int | None = None) -> Done | None:
    """Do a job in a process of its own, which is killed at its Nth event; None if it did not come to its end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        events = [0]

        def count(event: str, _arguments: object) -> None:
            if event in _EVENTS:
                events[0] += 1
                if kill_at is not None and events[0] >= kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            warnings.simplefilter("ignore")
            sys.addaudithook(count)
            job(out)
            done = Done(events[0], list(sys.modules))
            with os.fdopen(writing, "w") as answer:
                json.dump(done, answer)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    return Done(*json.loads(text)) if status == 0 else None


def load(modules: Sequence[str]) -> None:
    """Load what a job loaded: of the files that it opens most would be modules, and hardly a kill would fall into its work."""
    for name in modules:
        with contextlib.suppress(ImportError):  # made by another module, not found by its name
            importlib.import_module(name)


def contents(out: Path) -> dict[str, bytes]:
    """The bytes of every file of a result by relative name, but for what is about times."""
    files = (p for p in sorted(out.rglob("*")) if p.is_file() and p.name not in _WITH_TIMES)
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files if ".run/" not in p.as_posix()}


def broken(name: str, job: Callable[[Path], object], folder: Path, kills: int, seed: int) -> Iterator[str]:
    """What was not survived, in words; nothing is what is wanted."""
    first = in_a_process(job, folder / f"{name}-first")
    load(first.modules if first else ())
    undisturbed = in_a_process(job, folder / f"{name}-undisturbed")
    if first is None or undisturbed is None:
        yield f"{name}: it fails undisturbed"
        return
    wanted, events = contents(folder / f"{name}-first"), undisturbed.events
    if contents(folder / f"{name}-undisturbed") != wanted:
        yield f"{name}: two undisturbed runs differ"
    chance = random.Random(seed)
    for number in range(kills):
        at, out = chance.randint(1, events), folder / f"{name}-{number}"
        in_a_process(job, out, kill_at=at)
        if in_a_process(job, out) is None:
            yield f"{name}: killed at event {at} of {events}, it cannot be resumed"
            continue
        found = contents(out)
        if found != wanted:
            other = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
            yield f"{name}: killed at event {at} of {events} and resumed, these differ: {', '.join(other)}"


def main() -> int:
    """Kill and resume; exit status 1 if something was not survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each job")
    parser.add_argument("--of", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = jobs(folder, write_tiny_bundle(folder / "tiny"))
        for job in args.of:
            problems = list(broken(job, every[job], folder, args.kills, args.seed))
            bad += len(problems)
            print("\n".join(problems) or f"{job}: {args.kills} kills survived", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
