"""Classical classifiers as scikit-learn pipelines, evaluated by cross-validation over whole patients with nested
choice of parameters.

The literature compares sequence networks with these: a support vector machine, a random forest, naive Bayes, a decision
tree, a multilayer perceptron trained by back-propagation, and the perceptron after an unsupervised pre-classification by k-means.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from napari_medseq.errors import MedseqError
from napari_medseq.progress import Cancelled, Progress, with_progress
from napari_medseq.settings import Settings, checked

Classical = Literal["svm", "random-forest", "naive-bayes", "decision-tree", "perceptron", "two-stage"]
Grid = Mapping[str, Sequence[object]]

CLASSICAL: tuple[Classical, ...] = get_args(Classical)
_TREES = 200
_ITERATIONS = 500


class Classifier(Protocol):
    """The part of scikit-learn's classifiers that is used here."""

    classes_: NDArray[np.generic]

    def fit(self, x: NDArray[np.float64], y: NDArray[np.generic]) -> Classifier: ...

    def predict_proba(self, x: NDArray[np.float64]) -> NDArray[np.float64]: ...


class ClassicalSettings(Settings):
    """Settings of the evaluation of a classifier.

    Attributes
    ----------
    folds : int
        Number of folds of patients.
    inner_folds : int
        Number of folds of a fold's own training patients, by which its parameters are chosen; 0 takes scikit-learn's
        defaults.
    seed : int
    """

    folds: int = Field(5, ge=2)
    inner_folds: int = Field(3, ge=0)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The predictions of a classifier for cases whose patients it had not seen.

    Attributes
    ----------
    probabilities : ndarray, shape (cases, classes)
    classes : tuple
        The classes, in the order of the columns.
    folds : ndarray, shape (cases,)
        The fold in which each case was predicted.
    chosen : tuple of dict
        The parameters that were chosen in each fold, on its own training patients.
    """

    probabilities: NDArray[np.float64]
    classes: tuple[object, ...]
    folds: NDArray[np.int64]
    chosen: tuple[dict[str, object], ...]


def classical_pipeline(name: Classical, *, seed: int = 0) -> Classifier:
    """A scikit-learn pipeline: constant features are dropped, the others standardised, and the classifier follows.

    Parameters
    ----------
    name : {"svm", "random-forest", "naive-bayes", "decision-tree", "perceptron", "two-stage"}
        "two-stage": a perceptron whose features include the distances to centres that k-means finds without the truth. "svm": its
        decisions become probabilities by Platt's sigmoid, fitted to decisions of machines that had not seen the case;
        `judge_classical` sees to it that they had not seen the patient either.
    seed : int

    Raises
    ------
    MedseqError
        If there is no classifier of that name, or scikit-learn is not installed.
    """
    try:
        from sklearn.pipeline import make_pipeline
    except ImportError:
        raise MedseqError(_MISSING) from None
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import FeatureUnion
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    first = [VarianceThreshold(), StandardScaler()]
    perceptron = MLPClassifier((32,), max_iter=_ITERATIONS, random_state=seed)
    if name == "svm":
        machine = SVC(class_weight="balanced", random_state=seed)
        return CalibratedClassifierCV(make_pipeline(*first, machine), method="sigmoid", ensemble=False, cv=3)  # type: ignore[no-any-return]
    elif name == "random-forest":
        classifier = [RandomForestClassifier(_TREES, class_weight="balanced", random_state=seed)]
    elif name == "naive-bayes":
        classifier = [GaussianNB()]
    elif name == "decision-tree":
        classifier = [DecisionTreeClassifier(class_weight="balanced", random_state=seed)]
    elif name == "perceptron":
        classifier = [perceptron]
    elif name == "two-stage":
        groups = KMeans(4, n_init=4, random_state=seed)
        classifier = [FeatureUnion([("features", FunctionTransformer()), ("groups", groups)]), perceptron]
    else:
        raise MedseqError(f"There is no classifier {name!r}; choose from {', '.join(CLASSICAL)}.")
    pipeline: Classifier = make_pipeline(*first, *classifier)
    return pipeline


_MISSING = "Classical classifiers need scikit-learn: pip install 'napari-medseq[evaluate]'."

#: parameters that are chosen within each fold
GRIDS: dict[Classical, Grid] = {
    "svm": {"estimator__svc__C": [0.1, 1.0, 10.0]},
    "random-forest": {"randomforestclassifier__min_samples_leaf": [1, 5]},
    "naive-bayes": {"gaussiannb__var_smoothing": [1e-9, 1e-3, 1e-1]},
    "decision-tree": {"decisiontreeclassifier__max_depth": [3, 6, None]},
    "perceptron": {"mlpclassifier__alpha": [1e-4, 1e-1], "mlpclassifier__hidden_layer_sizes": [(16,), (64,)]},
    "two-stage": {"featureunion__groups__n_clusters": [2, 4, 8], "mlpclassifier__alpha": [1e-4, 1e-1]},
}


def patient_folds(truth: ArrayLike, patients: Sequence[object], *, folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """The fold of each case: no patient is in two folds, and classes are spread as evenly as possible.

    Raises
    ------
    MedseqError
        If there are fewer patients than folds, numbers of names and truths differ, or scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise MedseqError(_MISSING) from None
    y, groups = np.asarray(truth), np.array([str(p) for p in patients])
    if y.shape != groups.shape or y.ndim != 1:
        raise MedseqError(f"{groups.size} patients for {y.size} truths; give one of each per case.")
    if np.unique(groups).size < folds:
        raise MedseqError(f"{np.unique(groups).size} patients make no {folds} folds; use fewer folds.")
    fold_of = np.zeros(y.size, np.int64)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer cases than folds is spread as far as possible
        for k, (_, judged) in enumerate(split.split(np.zeros((y.size, 1)), y, groups)):
            fold_of[judged] = k
    return fold_of


def judge_classical(
    features: pd.DataFrame | ArrayLike,
    truth: ArrayLike,
    patients: Sequence[object],
    name: Classical,
    *,
    folds: ArrayLike | None = None,
    settings: ClassicalSettings | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> OutOfFold:
    """Train and evaluate a classifier fold by fold; each fold chooses its parameters on its own training patients only
    (nested).

    Parameters
    ----------
    features : DataFrame or array, shape (cases, features)
    truth : array_like, shape (cases,)
    patients : sequence, shape (cases,)
        Patient of each case; all cases of a patient are in one fold.
    name : see `classical_pipeline`
    folds : array_like, shape (cases,), optional
        The folds of the networks to compare with; by default those of `patient_folds`.
    settings, progress, cancelled

    Raises
    ------
    MedseqError
        If shapes do not fit, a feature is not finite, a patient is in two folds, a training set has one class only or too few cases,
        or scikit-learn is not installed.
    """
    s = checked(ClassicalSettings, settings)
    x, y = np.asarray(features, dtype=np.float64), np.asarray(truth)
    groups = np.array([str(p) for p in patients])
    if x.ndim != 2 or len(x) != y.size or y.size != groups.size:
        raise MedseqError(
            f"{len(x)} rows of features, {y.size} truths and {groups.size} patients; give one of each per case."
        )
    if not np.isfinite(x).all():
        raise MedseqError("A feature is not finite; leave it out, or fill it.")
    of = patient_folds(y, patients, folds=s.folds, seed=s.seed) if folds is None else np.asarray(folds, dtype=np.int64)
    if of.shape != y.shape:
        raise MedseqError(f"{of.size} folds for {y.size} cases; give the fold of each case.")
    shared = [g for g in np.unique(groups) if np.unique(of[groups == g]).size > 1]
    if shared:
        raise MedseqError(f"Patient {shared[0]} is in more than one fold.")
    classes = tuple(np.unique(y).tolist())
    probabilities = np.zeros((y.size, len(classes)))
    chosen = []
    every = np.unique(of).tolist()
    for k in with_progress(every, len(every), f"judging {name}", progress, cancelled):
        learn, judged = of != k, of == k
        if np.unique(y[learn]).size < 2:
            raise MedseqError(f"The patients outside fold {k} are all of one class; use fewer folds.")
        try:
            model, parameters = _fitted(name, x[learn], y[learn], groups[learn], s)
        except ValueError as problem:  # too few cases for the classifier's own folds or groups
            reason = next(iter(str(problem).strip().splitlines()), "ValueError")
            raise MedseqError(
                f"{name} cannot be trained on the {int(learn.sum())} cases outside fold {k} ({reason}); use fewer folds, "
                "inner_folds=0, or another classifier."
            ) from problem
        columns = [classes.index(c) for c in model.classes_.tolist()]
        probabilities[np.ix_(judged, columns)] = model.predict_proba(x[judged])
        chosen.append(parameters)
    return OutOfFold(probabilities, classes, of, tuple(chosen))


def _fitted(
    name: Classical, x: NDArray[np.float64], y: NDArray[np.generic], groups: NDArray[np.str_], s: ClassicalSettings
) -> tuple[Classifier, dict[str, object]]:
    from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

    pipeline: Any = classical_pipeline(name, seed=s.seed)
    parameters: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        # parameters that a small inner fold does not allow are not chosen
        warnings.simplefilter("ignore", FitFailedWarning)
        if name == "svm":
            pipeline.set_params(cv=_calibration_folds(y, groups, s.seed))
        if 2 <= s.inner_folds <= np.unique(groups).size:
            inner = StratifiedGroupKFold(s.inner_folds, shuffle=True, random_state=s.seed)
            # of the support vector machine its decisions are judged: they do not depend on how they become probabilities
            candidate, prefix = (pipeline.estimator, "estimator__") if name == "svm" else (pipeline, "")
            grid = {k.removeprefix(prefix): v for k, v in GRIDS[name].items()}
            search = GridSearchCV(candidate, grid, cv=inner, scoring="balanced_accuracy", refit=False)
            search.fit(x, y, groups=groups)
            pipeline.set_params(**{f"{prefix}{k}": v for k, v in search.best_params_.items()})
            parameters = {k.rsplit("__", 1)[1]: v for k, v in search.best_params_.items()}
        fitted: Classifier = pipeline.fit(x, y)
    return fitted, parameters


def _calibration_folds(
    y: NDArray[np.generic], groups: NDArray[np.str_], seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Folds of whole patients, each of which leaves all classes to learn from: three, or two where there are few patients.

    Raises
    ------
    ValueError
        If there are none.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    for folds in (3, 2):
        if np.unique(groups).size >= folds:
            split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            pairs = [(learn, judged) for learn, judged in split.split(np.zeros((y.size, 1)), y, groups) if judged.size]
            if all(np.unique(y[learn]).size == np.unique(y).size for learn, _ in pairs):
                return pairs
    raise ValueError("a class has too few patients for probabilities to be fitted to patients that were not seen")
