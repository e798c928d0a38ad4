from .acceptance import accept_slice as accept_slice
from .acceptance import reject_slice as reject_slice
from .active import hand_brush as hand_brush
from .alignments import hand_alignment as hand_alignment
from .alignments import set_hand_alignment as set_hand_alignment
from .answering import PROPAGATE as PROPAGATE
from .answering import LessonJob as LessonJob
from .answering import directions as directions
from .answering import lesson_job as lesson_job
from .answering import propagate as propagate
from .answering import show_lesson as show_lesson
from .arranging import assign_visit as assign_visit
from .arranging import close_patient as close_patient
from .arranging import next_ordinal as next_ordinal
from .arranging import read_visit as read_visit
from .carrying import CarriedMask as CarriedMask
from .carrying import CarryJob as CarryJob
from .carrying import carried_unseen as carried_unseen
from .carrying import carry as carry
from .carrying import carry_mask as carry_mask
from .carrying import carrying_job as carrying_job
from .carrying import looked_at as looked_at
from .carrying import show_carried as show_carried
from .changes import change_in_words as change_in_words
from .changes import show_change as show_change
from .channels import channel_layers as channel_layers
from .colouring import colour_by as colour_by
from .colouring import colours_chosen as colours_chosen
from .colouring import meaning_of_colours as meaning_of_colours
from .comparing import MOST_PANES as MOST_PANES
from .comparing import exams_open as exams_open
from .comparing import orthogonal as orthogonal
from .comparing import side_by_side as side_by_side
from .comparing import visits_open as visits_open
from .edit_copies import copy_to_slice as copy_to_slice
from .edit_copies import copy_to_visit as copy_to_visit
from .editing import Editing as Editing
from .editing import editing_of as editing_of
from .edits import EditJob as EditJob
from .edits import apply_edit as apply_edit
from .edits import combine_labels as combine_labels
from .edits import edit as edit
from .edits import edit_job as edit_job
from .edits import edited_layer as edited_layer
from .edits import used_labels as used_labels
from .followed import Followed as Followed
from .followed import correct as correct
from .followed import differs as differs
from .followed import painted as painted
from .followed import redo as redo
from .followed import result_of as result_of
from .followed import results_of as results_of
from .followed import show_progression as show_progression
from .followed import undo as undo
from .followed import why_outdated as why_outdated
from .found import found_in_words as found_in_words
from .found import show_found as show_found
from .greylevels import interpolate_image as interpolate_image
from .greylevels import set_window as set_window
from .greylevels import window_presets as window_presets
from .hint_layers import hints_of as hints_of
from .hint_layers import new_hints as new_hints
from .hinted import outline_hinted as outline_hinted
from .identity import bring_to_front as bring_to_front
from .identity import describe as describe
from .identity import identity as identity
from .identity import patient_in_front as patient_in_front
from .landmarks import landmark_pairs as landmark_pairs
from .landmarks import new_landmarks as new_landmarks
from .last_answers import Answered as Answered
from .last_answers import answer_axis as answer_axis
from .last_answers import answered as answered
from .last_answers import hide_painted as hide_painted
from .last_answers import holds_painted as holds_painted
from .last_answers import last_answer as last_answer
from .last_answers import next_slice as next_slice
from .lesion_marks import hide_marks as hide_marks
from .lesion_marks import show_diameters as show_diameters
from .lesion_marks import show_numbers as show_numbers
from .lesion_marks import shows_marks as shows_marks
from .lessons import doubtful_slice as doubtful_slice
from .lessons import interpolated as interpolated
from .lessons import show_answer as show_answer
from .lessons import take_over as take_over
from .lessons import with_painted as with_painted
from .limits import BrushLimit as BrushLimit
from .limits import limit_brush as limit_brush
from .limits import painted_range as painted_range
from .mask_difference import MaskDifference as MaskDifference
from .mask_difference import compare_masks as compare_masks
from .mask_saving import TakenMasks as TakenMasks
from .mask_saving import save_masks as save_masks
from .mask_saving import take_masks as take_masks
from .mask_saving import write_masks as write_masks
from .onto_slider import add_visit as add_visit
from .onto_slider import put_onto_slider as put_onto_slider
from .opening import open_patients as open_patients
from .ordering import move_visit as move_visit
from .ordering import reorder_visits as reorder_visits
from .ordering import set_visit_date as set_visit_date
from .overlaid import Overlaid as Overlaid
from .overlaid import OverlayJob as OverlayJob
from .overlaid import overlay_job as overlay_job
from .overlaid import prepare_overlay as prepare_overlay
from .overlays import Overlay as Overlay
from .overlays import close_overlay as close_overlay
from .overlays import overlay as overlay
from .overlays import overlay_of as overlay_of
from .overlays import show_overlay as show_overlay
from .painted_training import PaintedCase as PaintedCase
from .painted_training import check_model_name as check_model_name
from .painted_training import masks_worth_training_on as masks_worth_training_on
from .painted_training import painted_cases as painted_cases
from .painted_training import train_on_painted as train_on_painted
from .painted_training import write_training_set as write_training_set
from .panes import Panes as Panes
from .panes import close_panes as close_panes
from .panes import panes_of as panes_of
from .parts import Part as Part
from .parts import part_of as part_of
from .parts import region_of_shapes as region_of_shapes
from .parts import shown_slice as shown_slice
from .placement import step_through as step_through
from .placement import sync_slice_views as sync_slice_views
from .placement import use_world_placement as use_world_placement
from .preprocessing import Preprocessing as Preprocessing
from .preprocessing import bring_along as bring_along
from .preprocessing import masks_of as masks_of
from .preprocessing import other_visits as other_visits
from .preprocessing import preprocess as preprocess
from .preprocessing import recipe_of as recipe_of
from .preprocessing import step_titles as step_titles
from .preprocessing import steps_for_labels as steps_for_labels
from .preprocessing import transform_of as transform_of
from .readout import Reading as Reading
from .readout import Unit as Unit
from .readout import show_values as show_values
from .readout import shows_values as shows_values
from .readout import unit_of as unit_of
from .readout import values_at as values_at
from .recovery import Autosave as Autosave
from .recovery import Recovery as Recovery
from .recovery import autosave as autosave
from .recovery import discard as discard
from .recovery import finish_recovery as finish_recovery
from .recovery import recover as recover
from .recovery import recoverable as recoverable
from .recovery import recovery_folder as recovery_folder
from .recovery import take_autosave as take_autosave
from .recovery import write_autosave as write_autosave
from .regions import image_under as image_under
from .regions import why_not_together as why_not_together
from .result_saving import TakenResult as TakenResult
from .result_saving import changed_since as changed_since
from .result_saving import take_result as take_result
from .result_saving import write_result as write_result
from .result_saving import write_taken_result as write_taken_result
from .results import add_layers as add_layers
from .results import apply_lesion_colours as apply_lesion_colours
from .results import go_to as go_to
from .results import new_labels as new_labels
from .results import show_derived as show_derived
from .results import show_explanation as show_explanation
from .results import show_locations as show_locations
from .results import show_segmentation as show_segmentation
from .saved import ResultContent as ResultContent
from .saved import finish_result as finish_result
from .saved import is_result as is_result
from .saved import open_result as open_result
from .saved import open_studies as open_studies
from .saved import read_result as read_result
from .saved import show_result_layer as show_result_layer
from .session import TakenSession as TakenSession
from .session import finish_saving as finish_saving
from .session import is_session as is_session
from .session import not_in_session as not_in_session
from .session import recent_sessions as recent_sessions
from .session import save_session as save_session
from .session import take_session as take_session
from .session import write_session as write_session
from .session_opening import SessionContent as SessionContent
from .session_opening import SessionLayer as SessionLayer
from .session_opening import finish_session as finish_session
from .session_opening import open_session as open_session
from .session_opening import read_session as read_session
from .session_opening import show_session_layer as show_session_layer
from .slices import corrected_slices as corrected_slices
from .slices import go_to_slice as go_to_slice
from .slices import painted_slices as painted_slices
from .slices import settled_slices as settled_slices
from .step_previews import estimate_job as estimate_job
from .step_previews import estimate_seconds as estimate_seconds
from .step_previews import preview as preview
from .step_previews import preview_job as preview_job
from .stepping import KEYS as KEYS
from .stepping import next_lesion as next_lesion
from .stepping import next_visit as next_visit
from .study import by_patient as by_patient
from .tracking import Rerun as Rerun
from .tracking import by_visit as by_visit
from .tracking import follow_again as follow_again
from .tracking import label_layers as label_layers
from .tracking import masks_now as masks_now
from .tracking import show_followed as show_followed
from .tracking import track_job as track_job
from .tracking import track_layers as track_layers
from .tracking import tracking_job as tracking_job
from .verbs import add_sequence as add_sequence
from .verbs import add_study as add_study
from .verbs import as_visits as as_visits
from .verbs import classify as classify
from .verbs import locate as locate
from .verbs import open_path as open_path
from .verbs import resample_onto as resample_onto
from .verbs import run as run
from .verbs import segment as segment
from .verbs import study_of as study_of
from .verbs import to_sequence as to_sequence
from .verbs import world_affine as world_affine

__all__ = [
    "KEYS",
    "MOST_PANES",
    "PROPAGATE",
    "Answered",
    "Autosave",
    "BrushLimit",
    "CarriedMask",
    "CarryJob",
    "EditJob",
    "Editing",
    "Followed",
    "LessonJob",
    "MaskDifference",
    "Overlaid",
    "Overlay",
    "OverlayJob",
    "PaintedCase",
    "Panes",
    "Part",
    "Preprocessing",
    "Reading",
    "Recovery",
    "Rerun",
    "ResultContent",
    "SessionContent",
    "SessionLayer",
    "TakenMasks",
    "TakenResult",
    "TakenSession",
    "Unit",
    "accept_slice",
    "add_layers",
    "add_sequence",
    "add_study",
    "add_visit",
    "answer_axis",
    "answered",
    "apply_edit",
    "apply_lesion_colours",
    "as_visits",
    "assign_visit",
    "autosave",
    "bring_along",
    "bring_to_front",
    "by_patient",
    "by_visit",
    "carried_unseen",
    "carry",
    "carry_mask",
    "carrying_job",
    "change_in_words",
    "changed_since",
    "channel_layers",
    "check_model_name",
    "classify",
    "close_overlay",
    "close_panes",
    "close_patient",
    "colour_by",
    "colours_chosen",
    "combine_labels",
    "compare_masks",
    "copy_to_slice",
    "copy_to_visit",
    "correct",
    "corrected_slices",
    "describe",
    "differs",
    "directions",
    "discard",
    "doubtful_slice",
    "edit",
    "edit_job",
    "edited_layer",
    "editing_of",
    "estimate_job",
    "estimate_seconds",
    "exams_open",
    "finish_recovery",
    "finish_result",
    "finish_saving",
    "finish_session",
    "follow_again",
    "found_in_words",
    "go_to",
    "go_to_slice",
    "hand_alignment",
    "hand_brush",
    "hide_marks",
    "hide_painted",
    "hints_of",
    "holds_painted",
    "identity",
    "image_under",
    "interpolate_image",
    "interpolated",
    "is_result",
    "is_session",
    "label_layers",
    "landmark_pairs",
    "last_answer",
    "lesson_job",
    "limit_brush",
    "locate",
    "looked_at",
    "masks_now",
    "masks_of",
    "masks_worth_training_on",
    "meaning_of_colours",
    "move_visit",
    "new_hints",
    "new_labels",
    "new_landmarks",
    "next_lesion",
    "next_ordinal",
    "next_slice",
    "next_visit",
    "not_in_session",
    "open_path",
    "open_patients",
    "open_result",
    "open_session",
    "open_studies",
    "orthogonal",
    "other_visits",
    "outline_hinted",
    "overlay",
    "overlay_job",
    "overlay_of",
    "painted",
    "painted_cases",
    "painted_range",
    "painted_slices",
    "panes_of",
    "part_of",
    "patient_in_front",
    "prepare_overlay",
    "preprocess",
    "preview",
    "preview_job",
    "propagate",
    "put_onto_slider",
    "read_result",
    "read_session",
    "read_visit",
    "recent_sessions",
    "recipe_of",
    "recover",
    "recoverable",
    "recovery_folder",
    "redo",
    "region_of_shapes",
    "reject_slice",
    "reorder_visits",
    "resample_onto",
    "result_of",
    "results_of",
    "run",
    "save_masks",
    "save_session",
    "segment",
    "set_hand_alignment",
    "set_visit_date",
    "set_window",
    "settled_slices",
    "show_answer",
    "show_carried",
    "show_change",
    "show_derived",
    "show_diameters",
    "show_explanation",
    "show_followed",
    "show_found",
    "show_lesson",
    "show_locations",
    "show_numbers",
    "show_overlay",
    "show_progression",
    "show_result_layer",
    "show_segmentation",
    "show_session_layer",
    "show_values",
    "shown_slice",
    "shows_marks",
    "shows_values",
    "side_by_side",
    "step_through",
    "step_titles",
    "steps_for_labels",
    "study_of",
    "sync_slice_views",
    "take_autosave",
    "take_masks",
    "take_over",
    "take_result",
    "take_session",
    "to_sequence",
    "track_job",
    "track_layers",
    "tracking_job",
    "train_on_painted",
    "transform_of",
    "undo",
    "unit_of",
    "use_world_placement",
    "used_labels",
    "values_at",
    "visits_open",
    "why_not_together",
    "why_outdated",
    "window_presets",
    "with_painted",
    "world_affine",
    "write_autosave",
    "write_masks",
    "write_result",
    "write_session",
    "write_taken_result",
    "write_training_set",
]
