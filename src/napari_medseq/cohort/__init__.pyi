from .estimate import CohortEstimate as CohortEstimate
from .estimate import estimate_cohort as estimate_cohort
from .patients import Patient as Patient
from .patients import find_patients as find_patients
from .preprocessed import preprocess_cohort as preprocess_cohort
from .run import run_cohort as run_cohort

__all__ = ["CohortEstimate", "Patient", "estimate_cohort", "find_patients", "preprocess_cohort", "run_cohort"]
