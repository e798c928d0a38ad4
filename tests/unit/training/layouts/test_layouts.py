"""Which files belong together, in each layout that people have; whose they are; and what is doubtful."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from napari_medseq.errors import SettingsError
from napari_medseq.training.layouts import EACH, find_layout, learns_classes, trees


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_decathlon(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"{d}/la_00{k}.nii.gz" for k in range(3) for d in ("imagesTr", "labelsTr")),
        "imagesTs/la_009.nii.gz",
    )
    facts = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "left atrium"}}
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    found = find_layout(tmp_path)
    assert [e.patient for e in found.entries] == ["la_000", "la_001", "la_002"]
    assert (found.channels, found.classes, found.modalities) == (("MRI",), {1: "left atrium"}, {"MRI": "MR"})
    assert not found.doubts


def test_nnunet_channels_of_which_one_is_missing(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"imagesTr/case_{k}_000{c}.nii.gz" for k in "abc" for c in (0, 1)),
        *(f"labelsTr/case_{k}.nii.gz" for k in "abc"),
    )
    (tmp_path / "imagesTr/case_b_0001.nii.gz").unlink()
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "tumour": 1}})
    )
    found = find_layout(tmp_path)
    assert found.channels == ("CT", "PET")
    assert found.modalities == {"CT": "CT", "PET": "PT"}
    assert [tuple(e.images) for e in found.entries] == [("CT", "PET"), ("CT",), ("CT", "PET")]


def test_images_and_labels_whose_names_end_in_a_word(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "images/a.nii.gz",
        "images/b.nii.gz",
        "images/alone.nii.gz",
        "labels/a_seg.nii.gz",
        "labels/b_seg.nii.gz",
    )
    found = find_layout(tmp_path)
    assert [e.case for e in found.entries] == ["a", "b"]
    assert any("alone" in d for d in found.doubts)


def test_cases_that_share_a_name_are_one_patients_and_that_is_said(tmp_path: Path) -> None:
    names = [f"p{k}_{phase}" for k in (1, 2, 3) for phase in ("ED", "ES")]
    touch(tmp_path, *(f"{d}/{n}.nii.gz" for n in names for d in ("images", "labels")))
    found = find_layout(tmp_path)
    assert {e.patient for e in found.entries} == {"p1", "p2", "p3"}
    assert any("6 cases are taken to be of 3 patients" in d for d in found.doubts)
    assert len({e.patient for e in find_layout(tmp_path, patient=EACH).entries}) == 6
    assert {e.patient for e in find_layout(tmp_path, patient=r"p(\d)").entries} == {"1", "2", "3"}
    with pytest.raises(SettingsError, match="fits not"):
        find_layout(tmp_path, patient=r"q(\d)")
    with pytest.raises(SettingsError, match="regular expression"):
        find_layout(tmp_path, patient="(")


def test_frames_beside_labels(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(
            f"pat{p}/seq{s}/{d}/{k:04}.png"
            for p in (1, 2)
            for s in (1, 2)
            for k in range(3)
            for d in ("frames", "labels")
        ),
    )
    found = find_layout(tmp_path)
    assert len(found.entries) == 4
    assert {e.patient for e in found.entries} == {"pat1", "pat2"}
    assert all(e.frames and len(e.images["image"]) == 3 for e in found.entries)


def test_labels_beside_images_in_folders_of_patients(tmp_path: Path) -> None:
    touch(tmp_path, *(f"SC-{k}/{n}.nii.gz" for k in "AB" for n in ("ED", "ED_labels", "ES", "ES_labels")))
    found = find_layout(tmp_path)
    assert [(e.patient, e.images["image"][0].name) for e in found.entries] == [
        ("SC-A", "ED.nii.gz"), ("SC-A", "ES.nii.gz"), ("SC-B", "ED.nii.gz"), ("SC-B", "ES.nii.gz")
    ]  # fmt: skip


def test_bids_with_derivatives(tmp_path: Path) -> None:
    for k in ("01", "02"):
        touch(tmp_path, f"sub-{k}/ses-1/anat/sub-{k}_ses-1_T1w.nii.gz")
        touch(tmp_path, f"derivatives/manual/sub-{k}/ses-1/anat/sub-{k}_ses-1_dseg.nii.gz")
    found = find_layout(tmp_path)
    assert [(e.patient, e.images["image"][0].name) for e in found.entries] == [
        ("sub-01", "sub-01_ses-1_T1w.nii.gz"), ("sub-02", "sub-02_ses-1_T1w.nii.gz")
    ]  # fmt: skip


def test_masks_of_several_modalities_are_asked_about(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"STS_{k}/{m}_{what}.nii.gz" for k in "AB" for m in ("CT", "PET", "MR") for what in ("image", "mask")),
    )
    with pytest.raises(SettingsError, match="Say which belong together"):
        find_layout(tmp_path)
    found = find_layout(tmp_path, channels={"CT": "CT_*", "PET": "PET_*"}, labels="CT_mask")
    assert [(e.patient, tuple(e.images)) for e in found.entries] == [("STS_A", ("CT", "PET")), ("STS_B", ("CT", "PET"))]


def test_a_table_of_paths(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "a_t2.nii.gz", "a_l.nii.gz", "b.nii.gz", "b_l.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text(
        "patient,visit,T1,T2,labels,split\nA,1,a.nii.gz,a_t2.nii.gz,a_l.nii.gz,train\nB,1,b.nii.gz,,b_l.nii.gz,test\n"
    )
    found = find_layout(table)
    assert [(e.patient, tuple(e.images), e.split) for e in found.entries] == [
        ("A", ("T1", "T2"), "train"),
        ("B", ("T1",), "test"),
    ]
    table.write_text("patient,T1,labels\n,a.nii.gz,a_l.nii.gz\n")
    with pytest.raises(SettingsError, match="say whose it is"):
        find_layout(table)
    table.write_text("T1,labels\na.nii.gz,a_l.nii.gz\n")
    with pytest.raises(SettingsError, match="columns patient"):
        find_layout(table)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_table_as_excel_exports_it(tmp_path: Path, encoding: str) -> None:
    touch(tmp_path / "données", "A/flair.nii.gz", "A/seg.nii.gz", "B/flair.nii.gz")
    table = tmp_path / "cases.csv"
    rows = (
        "Patient;Visit;FLAIR;Labels;Class",
        "A;0;données\\A\\flair.nii.gz;données\\A\\seg.nii.gz;ill",
        "B;0;données\\B\\flair.nii.gz;;well",
        "A;6;;;ill",
        ";;;;",
    )
    table.write_bytes("\r\n".join(rows).encode(encoding))
    found = find_layout(table)
    assert [(e.case, e.images["FLAIR"][0].is_file(), e.labels[0].is_file()) for e in found.entries] == [
        ("A/0", True, True)
    ]
    doubts = "\n".join(found.doubts)
    for said in (
        "1 row names no image, left out: A/6",
        "no labels, left out: B/0",
        "class is not used",
    ):
        assert said in doubts


def table_of_classes(folder: Path, rows: str) -> Path:
    touch(folder, *(f"{k}.nii.gz" for k in "abcd"))
    (folder / "t.csv").write_text(rows)
    return folder / "t.csv"


def test_a_table_of_classes(tmp_path: Path) -> None:
    table = table_of_classes(
        tmp_path,
        "patient,visit,T1,age,seen,class,split\nA,1,a.nii.gz,61,2020/01/02,10,train\nB,1,b.nii.gz,n/a,,9,train\nC,1,c.nii.gz,7,,9,test\n"
        "D,1,d.nii.gz,8,,Unknown,train\nE,1,,9,,9,train\n",
    )
    found = find_layout(table)
    assert found.answers == ("9", "10")
    assert [(e.patient, e.answer, e.labels, e.split) for e in found.entries] == [
        ("A", "10", (), "train"), ("B", "9", (), "train"), ("C", "9", (), "test")
    ]  # fmt: skip
    assert found.channels == ("T1",)
    doubts = "\n".join(found.doubts)
    for said in (
        "no paths of images, so not used: 2 columns (age, seen)",
        "1 row names no class, left out: D/1",
        "no image, left out: E/1",
        "1 class has one patient alone (10)",
    ):
        assert said in doubts
    assert learns_classes(table)
    table.write_text("patient,T1,class\nA,x.nii.gz,ill\n")
    with pytest.raises(SettingsError, match=r"line 2: .*x\.nii\.gz is not there"):
        find_layout(table)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("A,a.nii.gz,ill\nB,b.nii.gz,Ill\nC,c.nii.gz,Ill\n", "Ill, ill differ only in how they are written"),
        ("A,a.nii.gz,ill\nB,b.nii.gz,ill\n", "every exam is ill"),
        ("A,a.nii.gz,ill\nA,b.nii.gz,well\nB,c.nii.gz,ill\n", "1 patient has exams of more than one class (A)"),
    ],
)
def test_what_is_odd_about_classes(tmp_path: Path, rows: str, said: str) -> None:
    assert said in "\n".join(find_layout(table_of_classes(tmp_path, f"patient,T1,class\n{rows}")).doubts)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("".join(f"P{k},a.nii.gz,{k / 7}\n" for k in range(30)), "30 different words"),
        ("A,a.nii.gz,ill;old\n", "names several classes"),
        ("A,a.nii.gz,\n", "no row names both an image and a class"),
    ],
)
def test_what_cannot_be_classes_is_refused(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        find_layout(table_of_classes(tmp_path, f"patient,T1,class\n{rows}"))


def test_of_labels_and_classes_the_labels_are_learned_unless_the_class_is_asked_for(tmp_path: Path) -> None:
    table = table_of_classes(tmp_path, "patient,T1,labels,class\nA,a.nii.gz,c.nii.gz,ill\nB,b.nii.gz,,well\n")
    found = find_layout(table)
    assert [e.patient for e in found.entries] == ["A"]
    assert not found.answers
    assert not learns_classes(table)
    assert "--set task=classification" in "\n".join(found.doubts)
    found = find_layout(table, task="classification")
    assert [(e.patient, e.answer) for e in found.entries] == [("A", "ill"), ("B", "well")]
    assert "labels is not used" in "\n".join(found.doubts)
    with pytest.raises(SettingsError, match="from a CSV file"):
        find_layout(tmp_path, task="classification")
    table.write_text("patient,T1,labels\nA,a.nii.gz,c.nii.gz\n")
    with pytest.raises(SettingsError, match="no column class"):
        find_layout(table, task="classification")


def test_rows_of_one_name_are_cases_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii.gz", "l.nii.gz")
    (tmp_path / "t.csv").write_text("patient,T1,labels\nA,a.nii.gz,l.nii.gz\nA,b.nii.gz,l.nii.gz\n")
    assert [e.case for e in find_layout(tmp_path / "t.csv").entries] == ["A", "A (2)"]


def test_bids_labels_lie_on_the_run_that_their_name_says(tmp_path: Path) -> None:
    for subject, run in (("1", "1"), ("2", "02")):
        raw, name = f"sub-{subject}/ses-a/anat", f"sub-{subject}_ses-a"
        touch(tmp_path / raw, *(f"{name}_{of}.nii.gz" for of in ("run-1_FLAIR", "run-2_FLAIR", "T1w")))
        touch(
            tmp_path / "derivatives" / "hand" / raw,
            f"{name}_run-{run}_space-orig_label-lesion_mask.nii.gz",
            f"{name}_run-{run}_space-orig_label-lesion_mask.json",
        )
    found = find_layout(tmp_path)
    taken = [e.images["FLAIR"][0].name for e in found.entries]
    assert taken == ["sub-1_ses-a_run-1_FLAIR.nii.gz", "sub-2_ses-a_run-2_FLAIR.nii.gz"]
    assert set(found.channels) == {"FLAIR", "T1w"}
    assert not found.doubts
    touch(tmp_path / "sub-3" / "anat", "sub-3_run-1_FLAIR.nii.gz", "sub-3_run-2_FLAIR.nii.gz")
    touch(tmp_path / "derivatives" / "hand" / "sub-3" / "anat", "sub-3_label-lesion_mask.nii.gz")
    assert any(
        "2 images are called FLAIR; sub-3_run-1_FLAIR.nii.gz is taken" in d for d in find_layout(tmp_path).doubts
    )


@pytest.mark.parametrize(
    ("files", "cases", "patients"),
    [
        # Synapse / BTCV: named by what they are, and numbered
        (("img/img0001.nii.gz", "label/label0001.nii.gz"), [("img0001", "img0001.nii.gz", "label0001.nii.gz")], ["img0001"]),
        # LiTS
        (("volume-0.nii", "segmentation-0.nii"), [("0", "volume-0.nii", "segmentation-0.nii")], ["0"]),
        # KiTS
        (("case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"), [("case_00000", "imaging.nii.gz", "segmentation.nii.gz")],
         ["case_00000"]),
        # ACDC as its authors give it; what has no labels (the whole cine) is left out
        (("patient001/patient001_4d.nii.gz", "patient001/patient001_frame01.nii.gz", "patient001/patient001_frame01_gt.nii.gz"),
         [("patient001/patient001_frame01", "patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz")], ["patient001"]),
        # ImageCAS, PROMISE12
        (("7.img.nii.gz", "7.label.nii.gz"), [("7", "7.img.nii.gz", "7.label.nii.gz")], ["7"]),
        (("Case00.mhd", "Case00_segmentation.mhd"), [("Case00", "Case00.mhd", "Case00_segmentation.mhd")], ["Case00"]),
        # 3D Slicer, ITK-SNAP
        (("P1/P1.nrrd", "P1/Segmentation.seg.nrrd"), [("P1", "P1.nrrd", "Segmentation.seg.nrrd")], ["P1"]),
        (("P1/scan.nii.gz", "P1/scan-segmentation.nii.gz"), [("P1/scan", "scan.nii.gz", "scan-segmentation.nii.gz")], ["P1"]),
        # DRIVE; ISIC, all in one folder that is nobody's
        (("images/21_training.tif", "1st_manual/21_manual1.gif"), [("21_training", "21_training.tif", "21_manual1.gif")], ["21_training"]),
        (("data/ISIC_1.jpg", "data/ISIC_1_segmentation.png", "data/ISIC_2.jpg", "data/ISIC_2_segmentation.png"),
         [("data/ISIC_1", "ISIC_1.jpg", "ISIC_1_segmentation.png"), ("data/ISIC_2", "ISIC_2.jpg", "ISIC_2_segmentation.png")],
         ["data/ISIC_1", "data/ISIC_2"]),
        # one's own: other words, capitals, a folder of each patient within both
        (("Scans/a.nrrd", "Ground Truth/a.nrrd"), [("a", "a.nrrd", "a.nrrd")], ["a"]),
        (("images/P1/T1.nii", "masks/P1/T1.nii"), [("P1/T1", "T1.nii", "T1.nii")], ["P1"]),
    ],
)  # fmt: skip
def test_public_data_sets_as_they_are_handed_out(
    tmp_path: Path, files: tuple[str, ...], cases: list[tuple[str, str, str]], patients: list[str]
) -> None:
    touch(tmp_path, *files)
    found = find_layout(tmp_path)
    assert [(e.case, e.images["image"][0].name, e.labels[0].name) for e in found.entries] == cases
    assert [e.patient for e in found.entries] == patients


def test_names_that_share_only_their_numbers_are_paired_and_that_is_said(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/im_{k}.nii.gz" for k in (1, 2)), *(f"labels/lb_{k:03}.nii.gz" for k in (1, 2, 3)))
    found = find_layout(tmp_path)
    assert [(e.case, e.labels[0].name) for e in found.entries] == [("im_1", "lb_001.nii.gz"), ("im_2", "lb_002.nii.gz")]
    assert any("same number, such as lb_001 to im_1" in d for d in found.doubts)
    touch(tmp_path, "images/other_2.nii.gz")  # called otherwise: 2 is no longer sure to be 2
    with pytest.raises(SettingsError, match="no image with labels"):
        find_layout(tmp_path)


def test_parts_of_a_data_set(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{d}/{part}1.nii.gz" for part in ("train", "val", "Test") for d in ("images", "labels")))
    assert {e.case: e.split for e in find_layout(tmp_path).entries} == {
        "train1": "train", "val1": "validation", "Test1": "test"
    }  # fmt: skip
    other = tmp_path / "yolo"
    touch(other, *(f"{d}/{part}/{part}1.png" for part in ("train", "val") for d in ("images", "labels")))
    found = find_layout(other).entries
    assert {e.case: (e.split, e.frames) for e in found} == {"train1": ("train", False), "val1": ("validation", False)}


def test_pictures_in_a_folder_of_each_patient_are_frames(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{d}/P{p}/{k:03}.png" for d in ("images", "masks") for p in (1, 2) for k in range(3)))
    found = find_layout(tmp_path).entries
    assert [(e.patient, e.frames, len(e.images["image"])) for e in found] == [("P1", True, 3), ("P2", True, 3)]


def test_a_mask_for_each_structure(tmp_path: Path) -> None:
    for case, structures in (("s0", ("liver", "spleen")), ("s1", ("kidney", "spleen"))):
        touch(tmp_path, f"{case}/ct.nii.gz", *(f"{case}/segmentations/{s}.nii.gz" for s in structures))
    found = find_layout(tmp_path)
    assert found.classes == {1: "kidney", 2: "liver", 3: "spleen"}
    assert [(e.patient, e.classes, e.frames) for e in found.entries] == [
        ("s0", {"liver": 2, "spleen": 3}, False), ("s1", {"kidney": 1, "spleen": 3}, False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        [f"P{k}/{n}.nii.gz" for k in (1, 2) for n in ("CT", "liver_mask", "spleen_mask")],
        [f"{c}{n}.nii.gz" for c in ("P1", "P2") for n in ("", "_liver_seg", "_spleen_seg")],
    ],
)
def test_several_masks_of_an_image_are_classes_by_their_names(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *names)
    found = find_layout(tmp_path)
    assert found.classes == {1: "liver", 2: "spleen"}
    assert [(e.patient, e.case, sorted(e.classes.values())) for e in found.entries] == [
        ("P1", "P1", [1, 2]), ("P2", "P2", [1, 2])
    ]  # fmt: skip
    assert "each name is a class of its own" in "\n".join(found.doubts)
    one = find_layout(tmp_path, labels="*liver*")
    assert (len(one.entries), one.classes, one.doubts) == (2, {}, ())


def test_several_masks_of_an_image_whose_names_say_nothing_are_asked_about(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P{k}/{n}.nii.gz" for k in (1, 2) for n in ("CT", f"a{k}_seg", f"b{k}_seg")))
    with pytest.raises(SettingsError, match="Say which one is to be learned"):
        find_layout(tmp_path)


def test_what_the_data_folder_itself_is_called_says_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "gt", "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz")
    assert [e.images["image"][0].name for e in find_layout(tmp_path / "gt").entries] == ["a.nii.gz", "b.nii.gz"]


def test_folders_of_slices_beside_masks(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sample{s}/{d}/{k:04}.tif" for s in (1, 2) for k in range(3) for d in ("slices", "masks")))
    found = find_layout(tmp_path)
    assert [(e.case, len(e.labels)) for e in found.entries] == [("sample1", 3), ("sample2", 3)]


@pytest.mark.parametrize(
    ("video", "labels", "patient"),
    [
        ("clip1.mp4", "clip1_labels/frame_{:04}.png", ""),
        ("videos/clip1.avi", "labels/clip1/{}.png", ""),
        ("pat1/clip1.mov", "pat1/masks/clip1_{:03}.png", "pat1"),
    ],
)
def test_videos_with_label_frames(tmp_path: Path, video: str, labels: str, patient: str) -> None:
    touch(tmp_path, video, "unlabelled/clip2.mp4", *(labels.format(k) for k in (0, 4, 12)))
    found = find_layout(tmp_path)
    (entry,) = found.entries
    assert (entry.images["image"][0].name, entry.at, len(entry.labels)) == (Path(video).name, (0, 4, 12), 3)
    assert entry.patient == (patient or entry.case)
    (doubt,) = found.doubts
    assert "unlabelled/clip2.mp4" in doubt
    (tmp_path / labels.format(0)).unlink()
    assert "count from 0" in "\n".join(find_layout(tmp_path).doubts)
    touch((tmp_path / labels.format(4)).parent, "last.png")
    with pytest.raises(SettingsError, match="the number of their frame"):
        find_layout(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ill/a.png", "ill/b.png", "well/c.png"], "If its folders (ill, well) are classes"),
        (["images/a.png", "labels_anna/a.png", "labels_bob/a.png"], "call the one to learn from 'labels'"),
    ],
)
def test_what_a_folder_without_labels_may_be(tmp_path: Path, names: list[str], said: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(SettingsError, match=re.escape(said)):
        find_layout(tmp_path)


def test_the_folder_around_a_data_set_will_do_and_that_is_said(tmp_path: Path) -> None:
    inner = tmp_path / "Dataset001_Liver"
    touch(inner, *(f for k in range(3) for f in (f"imagesTr/liver_00{k}_0000.nii.gz", f"labelsTr/liver_00{k}.nii.gz")))
    touch(tmp_path, "new/new.nii.gz", "truth.nii.gz")
    layout = find_layout(tmp_path)
    assert [e.case for e in layout.entries] == [e.case for e in find_layout(inner).entries]
    assert "taken from Dataset001_Liver" in layout.doubts[0]
    touch(tmp_path / "Dataset002_Lung", "imagesTr/lung_000_0000.nii.gz", "labelsTr/lung_000.nii.gz")
    with pytest.raises(SettingsError, match=r"several data sets .*Dataset001_Liver.*Dataset002_Lung"):
        find_layout(tmp_path)


def test_nothing_with_labels_says_what_is_known(tmp_path: Path) -> None:
    touch(tmp_path, "scan.nii.gz")
    with pytest.raises(SettingsError, match="imagesTr/labelsTr"):
        find_layout(tmp_path)
    with pytest.raises(SettingsError, match="is not there"):
        find_layout(tmp_path / "none")


@pytest.mark.parametrize("place", ["", "sub-{0:03}/anat/", "p{0:03}/"])
def test_a_tree_of_many_cases_looks_at_each_image_a_few_times(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 60
    for k in range(many):
        touch(tmp_path, *(place.format(k) + f"scan_{k:03}{end}.nii.gz" for end in ("", "_seg")))
    looks = 0

    def counted(path: Path, root: Path) -> Path:
        nonlocal looks
        looks += 1
        return place_of(path, root)

    place_of = trees._place
    monkeypatch.setattr(trees, "_place", counted)
    assert len(find_layout(tmp_path).entries) == many
    assert looks <= 6 * many  # with each mask looking at each image it would be 60 times as many


def test_classes_that_are_the_same_number_keep_their_order(tmp_path: Path) -> None:
    rows = "".join(f"P{k},a.nii.gz,{word}\n" for k, word in enumerate(["1.00", "0", "1", "1.0", "01", "0.0"]))
    assert find_layout(table_of_classes(tmp_path, "patient,T1,class\n" + rows)).answers == (
        "0", "0.0", "01", "1", "1.0", "1.00"
    )  # fmt: skip


def test_t1_within_a_word_is_no_mr(tmp_path: Path) -> None:
    channels = ["CT1", "contrast1", "PET2", "post-T1", "rT2", "ceT1", "FLAIR", "t1ce"]
    for k in range(len(channels)):
        touch(tmp_path, f"imagesTr/a_{k:04}.nii.gz")
    touch(tmp_path, "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {str(k): n for k, n in enumerate(channels)}}))
    assert find_layout(tmp_path).modalities == dict.fromkeys(channels[3:], "MR")


def test_a_pattern_whose_group_takes_no_part_finds_no_patient(tmp_path: Path) -> None:
    touch(tmp_path, "images/a1.nii.gz", "images/b2.nii.gz", "labels/a1.nii.gz", "labels/b2.nii.gz")
    with pytest.raises(SettingsError, match="fits not 'b2'"):
        find_layout(tmp_path, patient="(a)1|b2")


STEPS = "patient,T1,slice,class\na,a.nii.gz,0,ill\na,a.nii.gz,3,well\nb,b.nii.gz,1,\nb,b.nii.gz,2,ill\n"


def test_a_table_of_classes_of_slices(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.nii.gz").touch()
    path = tmp_path / "t.csv"
    path.write_text(STEPS)
    layout = find_layout(path)
    assert layout.kind == "a table of paths and classes of each slice"
    assert layout.answers == ("ill", "well")
    assert [(e.patient, dict(e.steps), e.numbered, e.answer) for e in layout.entries] == [
        ("a", {0: "ill", 3: "well"}, "slice", ""),
        ("b", {2: "ill"}, "slice", ""),
    ]
    path.write_text("patient,T1,slice,class\na,a.nii.gz,7,ill\nb,b.nii.gz,9,well\n")
    layout = find_layout(path)
    assert [(e.answer, dict(e.steps)) for e in layout.entries] == [("ill", {}), ("well", {})]
    assert any("each image has one row" in d for d in layout.doubts)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("a.nii.gz,3", "a.nii.gz,three", "line 3: slice is 'three'"),
        ("a.nii.gz,3", "a.nii.gz,-1", "line 3: slice is '-1'"),
        ("a.nii.gz,3", "a.nii.gz,0", "slice 0 of a has two rows"),
        ("slice,class", "slice,frame", "no column class|has the columns slice and frame|needs the columns"),
        ("patient,T1,slice", "frame,patient,T1,slice", "slice and frame"),
    ],
)
def test_bad_rows_of_slices_are_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.nii.gz").touch()
    text = STEPS.replace(old, new)
    if new.startswith("frame,"):
        header, *rows = text.splitlines()
        text = "\n".join([header, *(f"0,{row}" for row in rows)])
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SettingsError, match=said):
        find_layout(tmp_path / "t.csv")


def test_an_exam_whose_slices_are_in_two_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    rows = ["patient,T1,slice,class,split", "a,a.nii.gz,0,ill,train", "a,a.nii.gz,1,well,val"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(SettingsError, match="rows of a are in the splits"):
        find_layout(tmp_path / "t.csv")
