"""Registration against known transforms on real volumes: target registration error in mm, and time.

Each volume is moved by a known rigid transform, rescaled in brightness and made noisier, and registered back to the
original. The error is measured at points all over the body: the distance between where the found and the true transform
send them. Beside `napari_medseq.register`: SimpleITK used as its own tutorials do (centred start, Mattes' mutual
information, 1 % and 20 % of the voxels, three resolutions), and itk-elastix with its default rigid parameters where that is
installed. Last, what each method says when the two images have nothing to do with each other.

    python benchmarks/registration.py STUDY [--patients 8] [--trials 3] [--out registration.json]

STUDY is a folder of patients, each with visits (sub-*/ses-*/), or any folder of volumes. Without it the package's own
synthetic head is used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import napari_medseq as ms
from napari_medseq import geometry
from napari_medseq.errors import RegistrationError
from napari_medseq.registration import Transform
from napari_medseq.sequence import ImageSequence
from napari_medseq.volumes.foreground import foreground
from napari_medseq.volumes.grid import to_itk

#: name → (largest rotation about each axis in degrees, largest shift along each axis in mm)
DIFFICULTY = {"small": (5.0, 5.0), "medium": (15.0, 15.0), "large": (30.0, 30.0)}
Method = Callable[[ImageSequence, ImageSequence], np.ndarray]


def true_motion(image: ImageSequence, rng: np.random.Generator, degrees: float, shift: float) -> np.ndarray:
    """A random rigid motion about the middle of an image, RAS+ mm, fixed → moving."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    centre = geometry.apply_points(image.affine, (np.array(image.grid) - 1)[None] / 2)[0]
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + rng.uniform(-shift, shift, 3)
    return matrix


def moved(image: ImageSequence, matrix: np.ndarray, rng: np.random.Generator) -> ImageSequence:
    """The image as another scan would show it after the motion: other brightness, other noise."""
    data = Transform("rigid", np.linalg.inv(matrix), image.affine, image.grid).apply(image).data
    spread = float(np.percentile(data, 99) - np.percentile(data, 1))
    noisy = 1.3 * data + rng.normal(0, 0.02 * spread, data.shape)
    return image.replace(data=noisy.astype(np.float32), name="moving", meta={})


def ours(moving: ImageSequence, fixed: ImageSequence) -> np.ndarray:
    """`napari_medseq.register`, rigid, as it comes."""
    return ms.register(moving, fixed).linear


def simpleitk(share: float) -> Method:
    """SimpleITK as in its tutorials (InsightSoftwareConsortium, "Registration Introduction")."""

    def run(moving: ImageSequence, fixed: ImageSequence) -> np.ndarray:
        import SimpleITK as sitk

        f, m = (to_itk(s.volume_zyx().astype(np.float32), s.affine) for s in (fixed, moving))
        start = sitk.CenteredTransformInitializer(
            f, m, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
        )
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(50)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, 42)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([2, 1, 0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(start, inPlace=False)
        return matrix_of(method.Execute(f, m))

    return run


def matrix_of(transform: object) -> np.ndarray:
    """An ITK point mapping as a 4×4 matrix in RAS+ mm."""
    corner = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))  # type: ignore[attr-defined]
    matrix = np.eye(4)
    matrix[:3, 3] = corner
    for k in range(3):
        unit = tuple(float(j == k) for j in range(3))
        matrix[:3, k] = np.array(transform.TransformPoint(unit)) - corner  # type: ignore[attr-defined]
    return geometry.RAS_LPS @ matrix @ geometry.RAS_LPS


def elastix(moving: ImageSequence, fixed: ImageSequence) -> np.ndarray:
    """itk-elastix with its default rigid parameter map."""
    import itk

    f, m = (_to_python_itk(s) for s in (fixed, moving))
    settings = itk.ParameterObject.New()
    settings.AddParameterMap(settings.GetDefaultParameterMap("rigid"))
    _, found = itk.elastix_registration_method(f, m, parameter_object=settings, log_to_console=False)
    angles = [float(v) for v in found.GetParameter(0, "TransformParameters")]
    centre = np.array([float(v) for v in found.GetParameter(0, "CenterOfRotationPoint")])
    matrix = np.eye(4)
    x, y, z = (Rotation.from_rotvec(np.eye(3)[k] * angles[k]).as_matrix() for k in range(3))
    matrix[:3, :3] = z @ x @ y  # ITK's Euler3DTransform without ComputeZYX
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + angles[3:]
    return geometry.RAS_LPS @ matrix @ geometry.RAS_LPS


def _to_python_itk(seq: ImageSequence) -> object:
    import itk

    source = to_itk(seq.volume_zyx().astype(np.float32), seq.affine)
    image = itk.image_from_array(seq.volume_zyx().astype(np.float32))
    image.SetSpacing(source.GetSpacing())
    image.SetOrigin(source.GetOrigin())
    image.SetDirection(np.array(source.GetDirection()).reshape(3, 3))
    return image


def methods() -> dict[str, Method]:
    """What is installed."""
    found: dict[str, Method] = {
        "napari-medseq": ours,
        "SimpleITK 1 %": simpleitk(0.01),
        "SimpleITK 20 %": simpleitk(0.2),
    }
    try:
        import itk

        itk.ElastixRegistrationMethod  # noqa: B018
        found["itk-elastix"] = elastix
    except (ImportError, AttributeError):
        print("itk-elastix is not installed (pip install itk-elastix): left out")
    return found


def volumes(folder: Path | None, patients: int) -> dict[str, ImageSequence]:
    """The first image of each patient of a folder, or the synthetic head."""
    if folder is None:
        from napari_medseq.synthetic import make_study

        study = make_study(seed=0)
        study = getattr(study, "study", study)
        return {"synthetic head": study.visits[0].images[0].compute()}
    found: dict[str, ImageSequence] = {}
    for patient in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if len(found) == patients:
            break
        study = ms.read_study(patient) if patient.is_dir() else None
        images = [i for v in study.visits for i in v.images] if study else ms.read(patient)
        images = [i for i in images if i.kind == "image" and set(i.axes) == {"z", "y", "x"}]
        if images:
            found[patient.name] = images[0].compute()
    return found


def error_mm(found: np.ndarray, real: np.ndarray, image: ImageSequence) -> float:
    """Mean target registration error over the body."""
    points = geometry.apply_points(image.affine, np.argwhere(foreground(image.volume_zyx()))[::499, ::-1])
    apart = geometry.apply_points(found, points) - geometry.apply_points(real, points)
    return float(np.linalg.norm(apart, axis=1).mean())


def main() -> None:
    """Run, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of methods")
    parser.add_argument("--out", type=Path, default=Path("registration.json"))
    settings = parser.parse_args()
    images = volumes(settings.study, settings.patients)
    chosen = {k: v for k, v in methods().items() if not settings.only or k in settings.only}
    rows = []
    for name, image in images.items():
        for difficulty, (degrees, shift) in DIFFICULTY.items():
            for trial in range(settings.trials):
                rng = np.random.default_rng([trial, list(DIFFICULTY).index(difficulty), len(name)])
                real = true_motion(image, rng, degrees, shift)
                moving = moved(image, real, rng)
                before = error_mm(np.eye(4), real, image)
                for method, run in chosen.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    try:
                        error = error_mm(run(moving, image), real, image)
                    except (RegistrationError, RuntimeError):
                        error = float("inf")  # it said so itself
                    rows.append(
                        {
                            "volume": name,
                            "difficulty": difficulty,
                            "trial": trial,
                            "method": method,
                            "before_mm": before,
                            "error_mm": error,
                            "seconds": time.perf_counter() - wall,
                            "cpu_seconds": time.process_time() - cpu,
                        }
                    )
    report(rows, chosen)
    unrelated = refusals(images, chosen)
    settings.out.write_text(json.dumps({"trials": rows, "unrelated": unrelated}, indent=1))
    print(f"\nEvery trial: {settings.out}")


def report(rows: list[dict[str, object]], chosen: dict[str, Method]) -> None:
    """Print the table of errors and times."""
    print("\n| difficulty | method | median error (mm) | worst (mm) | over 3 mm | median time (s) | CPU (s) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for difficulty in DIFFICULTY:
        for method in chosen:
            mine = [r for r in rows if r["difficulty"] == difficulty and r["method"] == method]
            errors = np.array([r["error_mm"] for r in mine], dtype=float)
            wall, cpu = (np.median([r[k] for r in mine]) for k in ("seconds", "cpu_seconds"))  # type: ignore[arg-type]
            print(
                f"| {difficulty} | {method} | {np.median(errors):.2f} | {errors.max():.2f} | "
                f"{(errors > 3).sum()} of {errors.size} | {wall:.1f} | {cpu:.1f} |"
            )


def refusals(images: dict[str, ImageSequence], chosen: dict[str, Method]) -> dict[str, str]:
    """What each method says of noise: 'refused', or the rotation it invents."""
    image = next(iter(images.values()))
    noise = image.replace(
        data=np.random.default_rng(0).normal(100, 20, image.data.shape).astype(np.float32), name="noise"
    )
    answers = {}
    for method, run in chosen.items():
        try:
            found = run(noise, image)
            angle = np.degrees(np.arccos(np.clip((np.trace(found[:3, :3]) - 1) / 2, -1, 1)))
            answers[method] = f"accepted, {angle:.0f}° and {np.linalg.norm(found[:3, 3]):.0f} mm"
        except (RegistrationError, RuntimeError) as problem:
            answers[method] = f"refused: {str(problem)[:120]}"
        print(f"noise against {image.name}: {method}: {answers[method]}")
    return answers


if __name__ == "__main__":
    main()
