"""Learning from frames and visits: windows with true gaps and missing steps, cases from files, and that the order and days count."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import napari_medseq as ms
from napari_medseq.errors import MedseqError, ModelError, SettingsError
from napari_medseq.inference.inputs.visits import stack_visits
from napari_medseq.models import networks
from napari_medseq.models.sequence_network import SequenceNetwork
from napari_medseq.sequence import ImageSequence
from napari_medseq.training.cases import Case, make_case, make_visit_case
from napari_medseq.training.config import read_config
from napari_medseq.training.dataset import read_cases
from napari_medseq.training.loops.losses import segmentation_loss
from napari_medseq.training.loops.sequences import fit
from napari_medseq.training.loops.settings import LoopSettings
from napari_medseq.training.loops.windows import Windows
from napari_medseq.training.tables import read_table
from napari_medseq.training.tasks import TASKS, whole
from tests.narrowing import of
from tests.unit.inference.cines import cine
from tests.unit.training.lessons import STILL
from tests.unit.training.small import blob

NET: dict[str, Any] = {
    "_target_": "RecurrentUNet",
    "widths": [8, 8],
    "rnn_levels": [0],
    "hidden": 8,
    "ahead": 1,
    "neighbours": 0,
}
LOOP: dict[str, Any] = {"iterations": 2, "batch": 2, "steps": 2, "size": [16, 16], "warm_up": 1, "slices": 4}


# -- windows ---------------------------------------------------------------------------------------------------------
def numbered(steps: int = 3, slices: int = 5, **changes: Any) -> Case:
    """Every voxel holds 10 · step + slice; slice 2 of step 1 has a label."""
    image = (10.0 * torch.arange(steps)[:, None] + torch.arange(slices))[:, None, :, None, None]
    labels = torch.zeros(steps, slices, 24, 20, dtype=torch.int8)
    labels[1 % steps, min(2, slices - 1), 8:12, 8:12] = 1
    times = torch.tensor([0.0, 30.0, 400.0, 410.0, 900.0])[:steps]
    return Case("a", "n", image.expand(steps, 1, slices, 24, 20).half(), labels, times=times, **changes)


def windows(cases: list[Case], **changes: Any) -> Windows:
    settings: dict[str, Any] = {"steps": 2, "size": (16, 16), "augment": STILL, "seed": 1}
    settings |= {k: changes.pop(k) for k in list(changes) if k in LoopSettings.model_fields}
    given: dict[str, Any] = {"neighbours": 0, "extra_inputs": ["times", "present"], **changes}
    return Windows(cases, LoopSettings(**settings), **given)


def test_a_window_is_one_slice_at_several_visits_with_their_days() -> None:
    x, y, told = windows([numbered()], lesion_share=0.0, steps=3).draw(30)
    x = x.round()
    assert x.shape == (30, 3, 1, 16, 16)
    assert y.shape == (30, 3, 16, 16)
    assert torch.equal(x[:, 1:] - x[:, :-1], torch.full_like(x[:, 1:], 10.0))
    assert set(x[:, 0, 0, 0, 0].tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert told["times"].tolist() == [[0.0, 30.0, 400.0]] * 30
    assert told["present"].all()
    _, always, _ = windows([numbered()], lesion_share=1.0).draw(20)
    assert (always == 1).flatten(1).any(1).all()


def test_a_patient_of_few_visits_does_not_repeat_them() -> None:
    x, y, told = windows([numbered(2)], steps=4, neighbours=1).draw(5)
    assert x.shape == (5, 4, 3, 16, 16)
    assert told["present"].tolist() == [[True, True, False, False]] * 5
    assert (y[:, 2:] == -1).all()
    assert (y[:, :2] >= 0).all()
    assert told["times"].tolist() == [[0.0, 30.0, 30.0, 30.0]] * 5


def test_left_out_visits_leave_their_gap_and_never_the_labelled_one() -> None:
    some = STILL.model_copy(update={"skip": 0.5})
    x, y, told = windows([numbered(5)], steps=3, augment=some, lesion_share=1.0).draw(60)
    step = (x[:, :, 0, 0, 0] / 10).floor().long()
    days = numbered(5).times
    assert days is not None
    for there, at, when in zip(told["present"], step, told["times"], strict=True):
        assert torch.equal(when[there], days[at[there]])
        assert (at[there].diff() > 0).all()
    assert (y == 1).flatten(1).any(1).all()
    assert len({tuple(at[there].tolist()) for there, at in zip(told["present"], step, strict=True)}) > 5


@pytest.mark.parametrize("slices", [3, 9])
def test_a_window_of_volumes_holds_neighbouring_slices(slices: int) -> None:
    x, y, _ = windows([numbered(3, slices)], volumes=True, slices=4, lesion_share=1.0).draw(20)
    assert x.shape == (20, 2, 1, 4, 16, 16)
    assert y.shape == (20, 2, 4, 16, 16)
    assert (y == 1).flatten(1).any(1).all()
    steps = x[:, 0, 0, :, 0, 0].round().diff(dim=1)
    assert ((steps == 1) | (steps == 0)).all()
    assert (steps == 1).all() == (slices == 9)
    with pytest.raises(MedseqError, match="volumes"):
        windows([Case("a", "z", torch.zeros(3, 1, 24, 20).half(), torch.zeros(3, 24, 20).to(torch.int8))], volumes=True)


# -- cases -----------------------------------------------------------------------------------------------------------
def test_a_case_of_frames_has_their_slices_times_and_labels() -> None:
    seq = cine((0, 1, 2, 7))
    data = np.zeros(seq.data.shape, np.uint8)
    data[2, 1, 5:9, 5:9] = 3
    labels = seq.labels_like(data, name="seg", label_names={3: "a"})
    case = make_case("p", [seq], labels, along="t", merge=False)
    assert case.image.shape[:3] == (4, 1, 3)
    assert case.labels.shape == (4, 3, *case.image.shape[-2:])
    assert case.times is not None
    assert case.times.tolist() == [0, 1, 2, 7]
    assert int((case.labels == 3).sum()) == 16
    assert int((case.labels[2, 1] == 3).sum()) == 16
    few = make_case("p", [seq], labels, along="t", merge=False, sparse=True)
    assert np.argwhere((few.labels >= 0).flatten(2).any(2).numpy()).tolist() == [[2, 1]]


def test_a_case_of_visits_has_labels_where_its_grid_is() -> None:
    images = [blob(k, (3, 20, 18)) for k in range(3)]
    images[1] = images[1].replace(affine=images[1].affine @ np.diag([1.5, 1, 1, 1.0]))
    names: dict[int, ImageSequence] = {}
    for k in (0, 1):
        data = np.zeros((3, 20, 18), np.uint8)
        data[1, 8:12, 6:9] = 1
        names[k] = images[k].labels_like(data, name=f"seg{k}", label_names={1: "a"})
    groups = stack_visits([[i] for i in images], [100, 110, 150], [np.eye(4)] * 3)
    assert [g.own for g in groups] == [[0, 2], [1]]
    first, second = (make_visit_case("p", g, names) for g in groups)
    assert first.times is not None
    assert first.times.tolist() == [0, 10, 50]
    for case, own in ((first, 0), (second, 1)):
        assert [int((case.labels[k] == 1).sum()) for k in range(3)] == [12 if k == own else 0 for k in range(3)]
        assert [(case.labels[k] == -1).all().item() for k in range(3)] == [k != own for k in range(3)]


def test_the_score_looks_at_every_slice() -> None:
    torch.manual_seed(0)
    case = numbered(3, 3)
    for dimensions in (2, 3):
        net = of(SequenceNetwork, networks.build({**NET, "dimensions": dimensions, "gap_unit": 90.0}).eval())
        for name, value in net.named_parameters():
            if name.endswith(("out.weight", "_gap.weight")):
                torch.nn.init.normal_(value)
        said = whole(net, case)[0]
        assert tuple(said.shape[:2]) == (3, 2)
        times = case.times[None] if case.times is not None else None
        x = case.image.float()
        if dimensions == 2:
            with torch.no_grad():
                want = torch.stack([net(x[None, :, :, k], times=times)[0] for k in range(3)], 2)
            assert torch.allclose(said, want, atol=1e-4)
        score = TASKS["segmentation"].scores(net, case, read_config({"name": "m"}))["dice"]
        assert 0 <= score <= 1


# -- learning --------------------------------------------------------------------------------------------------------
def learned(cases: list[Case], folder: Path, **network: Any) -> Any:
    """A network after a short training."""
    torch.manual_seed(0)
    net = networks.build({**NET, "rnn_levels": [1], "dropout": 0.0, **network})
    tells: list[Any] = ["times", "present"] if network.get("gap_unit") else ["present"]
    window: dict[str, Any] = {"steps": 2, "size": (12, 12), "augment": STILL}
    drawn = Windows(cases, LoopSettings(**window), neighbours=0, extra_inputs=tells)
    loop = LoopSettings(**window, iterations=80, batch=4, rate=3e-2, warm_up=1, schedule="constant", lesion_share=0.0)
    net.load_state_dict(fit(net, drawn, segmentation_loss, loop, folder))
    return net.eval()


def right(network: Any, cases: list[Case]) -> float:
    """Share of the spots' pixels that are seen right."""
    each = [(whole(network, c)[0].argmax(1) == c.labels)[..., 4:8, 4:8].float().mean() for c in cases]
    return float(torch.stack(each).mean())


def followed(n: int, seed: int, *, grows: bool) -> list[Case]:
    """Two visits. Sought is what became brighter (`grows`), or where the second visit is late: one visit says nothing."""
    g = torch.Generator().manual_seed(seed)
    cases = []
    for _ in range(n):
        sought, late = bool(torch.rand((), generator=g) < 0.5), bool(torch.rand((), generator=g) < 0.5)
        first = float(torch.rand((), generator=g))
        change = (4.0 if sought else -4.0) if grows else 0.0
        levels = 4 + first + torch.tensor([-change / 2, change / 2])
        image, labels = torch.randn(2, 1, 1, 12, 12, generator=g), torch.zeros(2, 1, 12, 12, dtype=torch.int8)
        image[..., 4:8, 4:8] = levels.reshape(2, 1, 1, 1, 1) + 0.1 * image[..., 4:8, 4:8]
        labels[..., 4:8, 4:8] = int(sought if grows else late)
        times = torch.tensor([0.0, 900.0 if late else 10.0])
        cases.append(Case("p", "c", image.half(), labels, times=times))
    return cases


def test_a_network_that_remembers_learns_what_one_visit_does_not_show(tmp_path: Path) -> None:
    train, test = followed(60, 1, grows=True), followed(30, 2, grows=True)
    assert right(learned(train, tmp_path / "gru"), test) > 0.9
    assert right(learned(train, tmp_path / "none", rnn="none"), test) < 0.75


def test_the_days_between_visits_are_learned(tmp_path: Path) -> None:
    network, test = learned(followed(40, 1, grows=False), tmp_path / "gap", gap_unit=30.0), followed(30, 2, grows=False)
    assert right(network, test) > 0.9
    same_day = [replace(c, times=torch.zeros(2)) for c in test]
    soon = [c for c in test if not c.labels.any()]
    assert right(network, same_day) == pytest.approx(len(soon) / len(test), abs=0.1)


# -- from files ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients with two or three visits; the second patient's last visit has no image, the third's no labels at first."""
    root = tmp_path_factory.mktemp("visits")
    days = {
        "sub-a": ("20200101", "20200131", "20210101"),
        "sub-b": ("20200101", "20200301"),
        "sub-c": ("20200101", "20200401"),
    }
    for p, (patient, dates) in enumerate(days.items()):
        for v, day in enumerate(dates):
            seq = blob(10 * p + v, (3, 20, 18), name=f"{patient}_T1", meta={"frame_of_reference": "1"})
            data = np.zeros(seq.data.shape, np.uint8)
            data[1, 8:13, 7:12] = 1
            folder = root / "data" / patient / f"ses-{day}"
            folder.mkdir(parents=True)
            ms.write(seq.replace(data=seq.data + np.float32(400) * data), folder / f"{patient}_T1.nii.gz")
            if (patient, v) != ("sub-c", 0):
                ms.write(seq.labels_like(data, name="s", label_names={1: "core"}), folder / f"{patient}_seg.nii.gz")
    (root / "answers.csv").write_text("patient,class,age,sex\nsub-a,1,61,F\nsub-b,0,,M\nsub-c,1,45,\n")
    return root


def config(study: Path, out: Path, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": out.name,
        "data": [str(study / "data")],
        "image": "*_T1",
        "network": {**NET, "gap_unit": 90.0},
        "inference": {"along": "visit"},
        "align": "none",
        "loop": LOOP,
        "out": str(out),
        "device": "cpu",
    }
    return {**base, **changes}


def test_a_patient_is_one_case_of_all_visits(study: Path, tmp_path: Path) -> None:
    cases = read_cases(read_config(config(study, tmp_path / "m")))
    assert [c.patient for c in cases] == ["sub-a", "sub-b", "sub-c"]
    assert [c.times.tolist() for c in cases if c.times is not None] == [[0, 30, 366], [0, 60], [0, 91]]
    assert [c.image.shape[0] for c in cases] == [3, 2, 2]
    assert (cases[2].labels[0] == -1).all()
    assert (cases[2].labels[1] == 1).any()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_is_trained_on_visits_segments_visits(study: Path, tmp_path: Path, dimensions: int) -> None:
    network = {**NET, "gap_unit": 90.0, "dimensions": dimensions}
    loop = {**LOOP, "augment": {"skip": 0.3}, "validate_every": 1}
    given = config(study, tmp_path / "m", network=network, loop=loop, validation=["sub-c"])
    result = ms.train(given)
    assert result.curve["dice"].between(0, 1).all()
    assert result.model.info.sequence_axis == "visit"
    visits = ms.read_study(study / "data" / "sub-a").visits
    found = ms.segment(list(visits), result.model, transforms=[None] * 3)
    assert [f.labels.data.shape for f in found] == [(3, 20, 18)] * 3
    again = ms.train({**given, "out": str(tmp_path / "again")})
    a, b = (r.model.network.state_dict() for r in (result, again))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_main_job_takes_a_model_along_visits(study: Path, tmp_path: Path) -> None:
    model = ms.train(config(study, tmp_path / "m", inference={"along": "visit", "threshold": 0.01})).model
    result = ms.run(study / "data" / "sub-a", model, series="*_T1", register="none", out=tmp_path / "out")
    assert [str(v)[:10] for v in result.summary["date"]] == ["2020-01-01", "2020-01-31", "2021-01-01"]
    assert len(list((tmp_path / "out").glob("ses-*/*_lesions.nii.gz"))) == 3
    assert result.lesions["visit"].nunique() == 3


def test_frames_are_trained_on_and_segmented(tmp_path: Path) -> None:
    for k in range(2):
        seq = cine((0, 1, 2, 7), seed=5 * k).replace(name=f"p{k}_T1")
        data = np.zeros(seq.data.shape, np.uint8)
        data[1:, 1, 6:12, 6:12] = 1
        folder = tmp_path / "data" / f"sub-{k}" / "ses-20200101"
        folder.mkdir(parents=True)
        ms.write(seq, folder / f"p{k}_T1.nii.gz")
        ms.write(seq.labels_like(data, name="s", label_names={1: "a"}), folder / f"p{k}_seg.nii.gz")
    given = config(tmp_path, tmp_path / "m", inference={"along": "t"}, network={**NET, "gap_unit": 1.0})
    result = ms.train(given)
    assert result.model.info.sequence_axis == "t"
    assert ms.segment(cine(), result.model).labels.axes == ("t", "z", "y", "x")


# -- tables ----------------------------------------------------------------------------------------------------------
CLASSIFIER = {
    "_target_": "SequenceClassifier",
    "widths": [8, 8],
    "hidden": 4,
    "neighbours": 0,
    "dimensions": 3,
    "gap_unit": 90.0,
}


def classifier(study: Path, out: Path, **changes: Any) -> dict[str, Any]:
    answers = str(study / "answers.csv")
    about = {"task": "classification", "targets": answers, "table": answers, "values": ["age", "sex"]}
    return config(study, out, **{**about, "classes": {0: "no", 1: "yes"}, "network": CLASSIFIER, **changes})


def test_a_classifier_learns_with_a_table_and_days(study: Path, tmp_path: Path) -> None:
    result = ms.train(classifier(study, tmp_path / "m", loop={**LOOP, "validate_every": 1}, validation=["sub-c"]))
    assert result.curve["log_likelihood"].notna().all()
    info, network = result.model.info, result.model.network
    assert info.table == ("age", "sex=F", "sex=M")
    branch: Any = network.tabular
    assert branch.centre[0] == pytest.approx(61.0)


def test_values_and_days_reach_the_answer(study: Path, tmp_path: Path) -> None:
    model = ms.train(classifier(study, tmp_path / "m")).model
    assert model.info.table == ("age", "sex=F", "sex=M")
    torch.manual_seed(3)
    for value in model.network.parameters():
        torch.nn.init.normal_(value, std=0.3)
    visits = list(ms.read_study(study / "data" / "sub-a").visits)
    visits = [ms.Visit(v.date, tuple(i for i in v.images if i.name.endswith("T1")), (), v.name) for v in visits]

    def asked(visits: list[ms.Visit], table: dict[str, Any] | None) -> Tensor:
        found: Any = ms.classify(visits, model, table=table, transforms=[None] * len(visits))
        assert found.step_axis == "visit"
        assert found.per_step.shape == (len(visits), 2)
        return torch.tensor(list(found.probabilities.values()))

    plain = asked(visits, None)
    assert torch.equal(plain, asked(visits, {"age": math.nan, "sex": ""}))
    assert not torch.allclose(plain, asked(visits, {"age": 90}))
    assert torch.equal(asked(visits, {"sex": "F"}), asked(visits, {"sex=F": 1, "sex=M": 0}))
    assert not torch.allclose(asked(visits, {"sex": "M"}), asked(visits, {"sex": "F"}))
    later = [
        ms.Visit(v.date.replace(year=v.date.year + 2 * (k == 2)), v.images) for k, v in enumerate(visits) if v.date
    ]
    assert not torch.allclose(plain, asked(later, None))
    with pytest.raises(ModelError, match="knows F, M"):
        ms.classify(visits, model, table={"sex": "female"})
    with pytest.raises(ModelError, match="not weight"):
        ms.classify(visits, model, table={"weight": 70})


def test_a_table_by_visit_falls_back_on_the_patient(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient,visit,age,marker\na,,61,\na,ses-2,,3.5\nb,,NA,2\n")
    table = read_table(path, ["age", "marker"])
    assert table.names == ("age", "marker")
    assert table.of("a", "ses-2").tolist() == [61, 3.5]
    assert torch.equal(table.of("a", "ses-1").isnan(), torch.tensor([False, True]))
    assert table.of("b", "x").tolist()[1] == 2
    assert table.of("nobody").isnan().all()


def test_tables_that_cannot_be_used_say_why(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient,age,note\n" + "".join(f"p{k},,words {k}\n" for k in range(30)))
    for column, what in (("weight", "weight cannot be found"), ("age", "is empty"), ("note", "30 different words")):
        with pytest.raises(SettingsError, match=what):
            read_table(path, [column])
    with pytest.raises(SettingsError, match="give both"):
        read_config(classifier(study, tmp_path / "m", values=[]))
    with pytest.raises(SettingsError, match="no values from a table"):
        ms.train(classifier(study, tmp_path / "m", network={"_target_": "ConvAutoencoder"}))
    flat = {**CLASSIFIER, "dimensions": 2}
    with pytest.raises(MedseqError, match="dimensions"):
        ms.train(classifier(study, tmp_path / "m", network=flat))
    with pytest.raises(SettingsError, match="synthetic"):
        read_config(config(study, tmp_path / "m", synthetic=2))
