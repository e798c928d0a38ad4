"""Every settings model is frozen, knows its names, and says in one way what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from napari_medseq.errors import MedseqError, ModelError, SettingsError
from napari_medseq.fields import setting_facts
from napari_medseq.settings import Settings, checked
from napari_medseq.training.automatic.config import AutoConfig
from napari_medseq.training.config import TrainConfig


class Inner(Settings):
    radius_mm: float = Field(1.0, gt=0, le=9)
    how: Literal["mean", "median"] = "mean"


class Outer(Settings):
    steps: int = Field(3, ge=1)
    share: float = 0.5
    inner: Inner = Inner()

    @model_validator(mode="after")
    def _share_is_a_share(self) -> Outer:
        if not 0 <= self.share <= 1:
            raise ValueError("share must lie between 0 and 1")
        return self


class Needed(Settings):
    folder: str


BAD = [
    ({"steps": 0}, r"^Outer: steps = 0: input should be greater than or equal to 1\.$"),
    ({"stps": 4}, r"^Outer: stps is not a setting; there are steps, share, inner\.$"),
    ({"stps": 4, "shr": 1}, r"^Outer: stps, shr are not settings; there are steps, share, inner\.$"),
    ({"inner": {"radius": 4}}, r"^Outer: inner\.radius is not a setting; there are radius_mm, how\.$"),
    ({"inner": {"how": "mode"}}, r"inner\.how = 'mode': input should be 'mean' or 'median'"),
    ({"share": float("nan")}, r"share = nan: input should be a finite number"),
    ({"share": float("inf")}, r"share = inf: input should be a finite number"),
    ({"share": 2.0}, r"^Outer: share must lie between 0 and 1\.$"),
    ({"steps": "x" * 500}, r"^Outer: steps = 'x{20,90}…: input should be a valid integer"),
    ({"steps": 0, "share": "much"}, r"steps = 0: .*; share = 'much': "),
]


@pytest.mark.parametrize(("values", "text"), BAD)
def test_both_ways_to_give_settings_report_the_same(values: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text) as given:
        checked(Outer, values)
    with pytest.raises(SettingsError, match=text) as built:
        Outer(**values)
    assert str(given.value) == str(built.value)
    assert isinstance(given.value, ValueError)


def test_settings_are_taken_as_a_model_a_mapping_or_not_at_all() -> None:
    own = Outer(steps=7)
    assert checked(Outer, own) is own
    assert checked(Outer, {"steps": 7, "inner": {"how": "median"}}) == Outer(steps=7, inner=Inner(how="median"))
    assert checked(Outer, None) == Outer()
    for odd in (5, ["steps"], "steps"):
        with pytest.raises(SettingsError, match=r"^Outer: "):
            checked(Outer, odd)


def test_settings_are_frozen() -> None:
    own = Outer()
    with pytest.raises(MedseqError):
        Needed()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="frozen"):
        own.steps = 4  # type: ignore[misc]


def test_the_message_says_where_and_is_of_the_kind_that_the_caller_wants() -> None:
    with pytest.raises(ModelError, match=r"^inference settings of tiny: folder is missing\.$"):
        checked(Needed, {}, where="inference settings of tiny", error=ModelError)


class Described(Settings):
    """What is described."""

    sizes_mm: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, title="sizes", description="Of each.", json_schema_extra={"unit": "mm", "none": "as in the image"}
    )


def test_docstring_and_facts_of_a_field_have_one_source() -> None:
    facts = setting_facts(Described, "sizes_mm")
    assert (facts.title, facts.unit, facts.minimum, facts.minimum_excluded) == ("sizes", "mm", 0.0, True)
    assert (facts.optional, facts.none, facts.maximum, facts.choices) == (True, "as in the image", None, ())
    lines = (Described.__doc__ or "").splitlines()
    assert "sizes_mm : tuple[float, ...] | None, default None, in mm" in lines
    assert "    Of each. None: as in the image." in lines


def test_places_in_a_record_are_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = TrainConfig(name="n", data=("data",), network={"_target_": "RecurrentUNet"})
    auto = AutoConfig(data="data", out="out", plan="plan.yaml")
    monkeypatch.chdir(tmp_path.parent)
    assert (given.data, given.out) == ((str(tmp_path / "data"),), str(tmp_path / "model"))
    assert auto.model_dump()["plan"] == str(tmp_path / "plan.yaml")
    assert TrainConfig.model_validate(given.model_dump()) == given
