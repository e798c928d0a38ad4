"""What every plan of a training is: settings with their reasons, kept as a YAML file that may be edited and used again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self, TypeAlias

from pydantic import Field

from napari_medseq import files
from napari_medseq.errors import SettingsError
from napari_medseq.settings import Settings, checked


class PlanFile(Settings):
    """A plan; `reasons` gives the reason for each field's value, in a line each.

    Those in `unlisted` are too long to be printed: only their reasons are.
    """

    unlisted: ClassVar[tuple[str, ...]] = ()
    reasons: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A plan from its YAML file.

        Raises
        ------
        SettingsError
            If it cannot be read or is no such plan.
        """
        from napari_medseq.yaml_text import read_settings

        values = read_settings(path)
        needed = [name for name, field in cls.model_fields.items() if field.is_required()]
        if not any(name in values for name in needed):
            raise SettingsError(
                f"{path} is not the plan of such a training: it has no {', '.join(needed)}. Plans lie in the folder of a training, such as "
                "my-model.run/plan.yaml, and those for outlines and for classes are not the same."
            )
        return checked(cls, values, where=str(path))

    def overruled(self, settings: Mapping[str, object]) -> Self:
        """The plan with values that the user gives; the reason recorded for these is that the user gave them.

        Raises
        ------
        SettingsError
            If a name or a value is not usable.
        """
        if not settings:
            return self
        reasons = {**self.reasons, **dict.fromkeys(settings, "as the settings say")}
        values = self.model_dump()
        for name, value in settings.items():
            own = values.get(name)
            values[name] = {**own, **value} if isinstance(own, dict) and isinstance(value, Mapping) else value
        return checked(type(self), {**values, "reasons": reasons}, where="settings")

    def __str__(self) -> str:
        lines = []
        for name, value in self.model_dump(mode="json", exclude={"reasons", *self.unlisted}).items():
            lines.append(f"{name}: {value}" + (f"  # {self.reasons[name]}" if name in self.reasons else ""))
        return "\n".join([*lines, *(f"{k}: {v}" for k, v in self.reasons.items() if k in self.unlisted)])

    def save(self, path: Path) -> Path:
        """Write as YAML, with the reasons last."""
        import yaml

        values = self.model_dump(mode="json")
        values["reasons"] = values.pop("reasons")
        return files.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def plan_to_follow(run: Path, *, anew: bool = False) -> Path | None:
    """The plan of a training that was interrupted, or that was only planned so far, if `run`, its folder, holds one.

    Where `anew` is said, a plan that no training has begun with is made again.
    """
    path = run / "plan.yaml"
    if not path.exists():
        return None
    begun = (run / "checkpoint.pt").exists()
    only_planned = not anew and [p.name for p in run.iterdir()] == [path.name]
    return path if begun or only_planned else None


#: is called with the plan before the training by it begins
Planned: TypeAlias = Callable[[PlanFile], object]
