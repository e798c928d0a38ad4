from .placement import keep_views_true as keep_views_true
from .placement import place_truly as place_truly
from .placement import step_through as step_through
from .placement import step_through_slices as step_through_slices
from .results import add_layers as add_layers
from .results import go_to as go_to
from .results import new_labels as new_labels
from .results import show_derived as show_derived
from .results import show_explanation as show_explanation
from .results import show_locations as show_locations
from .results import show_progression as show_progression
from .results import show_segmentation as show_segmentation
from .results import study_for as study_for
from .results import wear_lesion_colours as wear_lesion_colours
from .verbs import add_sequence as add_sequence
from .verbs import add_study as add_study
from .verbs import as_visits as as_visits
from .verbs import classify as classify
from .verbs import label_layers as label_layers
from .verbs import locate as locate
from .verbs import open_path as open_path
from .verbs import resample_onto as resample_onto
from .verbs import run as run
from .verbs import segment as segment
from .verbs import study_of as study_of
from .verbs import study_of_or_labels as study_of_or_labels
from .verbs import to_sequence as to_sequence
from .verbs import track_job as track_job
from .verbs import track_layers as track_layers
from .verbs import tracking_job as tracking_job
from .verbs import world_affine as world_affine

__all__ = [
    "add_layers",
    "add_sequence",
    "add_study",
    "as_visits",
    "classify",
    "go_to",
    "keep_views_true",
    "label_layers",
    "locate",
    "new_labels",
    "open_path",
    "place_truly",
    "resample_onto",
    "run",
    "segment",
    "show_derived",
    "show_explanation",
    "show_locations",
    "show_progression",
    "show_segmentation",
    "step_through",
    "step_through_slices",
    "study_for",
    "study_of",
    "study_of_or_labels",
    "to_sequence",
    "track_job",
    "track_layers",
    "tracking_job",
    "wear_lesion_colours",
    "world_affine",
]
