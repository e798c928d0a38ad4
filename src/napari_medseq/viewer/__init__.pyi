from .alignments import hand_alignment as hand_alignment
from .alignments import set_hand_alignment as set_hand_alignment
from .canvases.panes import Panes as Panes
from .canvases.panes import close_panes as close_panes
from .canvases.panes import panes_of as panes_of
from .channels import channel_layers as channel_layers
from .editing.active import hand_brush as hand_brush
from .editing.model import Editing as Editing
from .editing.model import editing_of as editing_of
from .editing.slices import corrected_slices as corrected_slices
from .editing.slices import go_to_slice as go_to_slice
from .editing.slices import painted_slices as painted_slices
from .editing.slices import settled_slices as settled_slices
from .greylevels import interpolate_image as interpolate_image
from .greylevels import set_window as set_window
from .greylevels import window_presets as window_presets
from .identity import bring_to_front as bring_to_front
from .identity import describe as describe
from .identity import identity as identity
from .identity import patient_in_front as patient_in_front
from .layers.parts import Part as Part
from .layers.parts import part_of as part_of
from .layers.parts import region_of_shapes as region_of_shapes
from .layers.parts import shown_slice as shown_slice
from .layers.placement import step_through as step_through
from .layers.placement import sync_slice_views as sync_slice_views
from .layers.placement import use_world_placement as use_world_placement
from .layers.studies import by_patient as by_patient
from .masks.copies import copy_to_slice as copy_to_slice
from .masks.copies import copy_to_visit as copy_to_visit
from .masks.difference import MaskDifference as MaskDifference
from .masks.difference import compare_masks as compare_masks
from .masks.edits import EditJob as EditJob
from .masks.edits import apply_edit as apply_edit
from .masks.edits import combine_labels as combine_labels
from .masks.edits import edit as edit
from .masks.edits import edit_job as edit_job
from .masks.edits import edited_layer as edited_layer
from .masks.edits import used_labels as used_labels
from .masks.hint_layers import hints_of as hints_of
from .masks.hint_layers import new_hints as new_hints
from .masks.hinted import outline_hinted as outline_hinted
from .masks.limits import BrushLimit as BrushLimit
from .masks.limits import limit_brush as limit_brush
from .masks.limits import painted_range as painted_range
from .masks.regions import image_under as image_under
from .masks.regions import why_not_together as why_not_together
from .masks.saving import TakenMasks as TakenMasks
from .masks.saving import save_masks as save_masks
from .masks.saving import take_masks as take_masks
from .masks.saving import write_masks as write_masks
from .opening import open_patients as open_patients
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
from .results.colouring import colour_by as colour_by
from .results.colouring import colours_chosen as colours_chosen
from .results.colouring import meaning_of_colours as meaning_of_colours
from .results.followed import Followed as Followed
from .results.followed import correct as correct
from .results.followed import differs as differs
from .results.followed import painted as painted
from .results.followed import redo as redo
from .results.followed import result_of as result_of
from .results.followed import results_of as results_of
from .results.followed import show_progression as show_progression
from .results.followed import undo as undo
from .results.followed import why_outdated as why_outdated
from .results.found import found_in_words as found_in_words
from .results.found import show_found as show_found
from .results.lesion_marks import hide_marks as hide_marks
from .results.lesion_marks import show_diameters as show_diameters
from .results.lesion_marks import show_numbers as show_numbers
from .results.lesion_marks import shows_marks as shows_marks
from .results.opening import ResultContent as ResultContent
from .results.opening import finish_result as finish_result
from .results.opening import is_result as is_result
from .results.opening import open_result as open_result
from .results.opening import open_studies as open_studies
from .results.opening import read_result as read_result
from .results.opening import show_result_layer as show_result_layer
from .results.saving import TakenResult as TakenResult
from .results.saving import changed_since as changed_since
from .results.saving import take_result as take_result
from .results.saving import write_result as write_result
from .results.saving import write_taken_result as write_taken_result
from .results.showing import add_layers as add_layers
from .results.showing import apply_lesion_colours as apply_lesion_colours
from .results.showing import go_to as go_to
from .results.showing import new_labels as new_labels
from .results.showing import show_derived as show_derived
from .results.showing import show_explanation as show_explanation
from .results.showing import show_locations as show_locations
from .results.showing import show_segmentation as show_segmentation
from .results.stepping import KEYS as KEYS
from .results.stepping import next_lesion as next_lesion
from .results.stepping import next_visit as next_visit
from .results.tracking import Rerun as Rerun
from .results.tracking import by_visit as by_visit
from .results.tracking import follow_again as follow_again
from .results.tracking import label_layers as label_layers
from .results.tracking import masks_now as masks_now
from .results.tracking import show_followed as show_followed
from .results.tracking import track_job as track_job
from .results.tracking import track_layers as track_layers
from .results.tracking import tracking_job as tracking_job
from .sessions.opening import SessionContent as SessionContent
from .sessions.opening import SessionLayer as SessionLayer
from .sessions.opening import finish_session as finish_session
from .sessions.opening import open_session as open_session
from .sessions.opening import read_session as read_session
from .sessions.opening import show_session_layer as show_session_layer
from .sessions.recovery import Autosave as Autosave
from .sessions.recovery import Recovery as Recovery
from .sessions.recovery import autosave as autosave
from .sessions.recovery import discard as discard
from .sessions.recovery import finish_recovery as finish_recovery
from .sessions.recovery import recover as recover
from .sessions.recovery import recoverable as recoverable
from .sessions.recovery import recovery_folder as recovery_folder
from .sessions.recovery import take_autosave as take_autosave
from .sessions.recovery import write_autosave as write_autosave
from .sessions.saving import TakenSession as TakenSession
from .sessions.saving import finish_saving as finish_saving
from .sessions.saving import is_session as is_session
from .sessions.saving import not_in_session as not_in_session
from .sessions.saving import recent_sessions as recent_sessions
from .sessions.saving import save_session as save_session
from .sessions.saving import take_session as take_session
from .sessions.saving import write_session as write_session
from .step_previews import estimate_job as estimate_job
from .step_previews import estimate_seconds as estimate_seconds
from .step_previews import preview as preview
from .step_previews import preview_job as preview_job
from .teaching.acceptance import accept_slice as accept_slice
from .teaching.acceptance import reject_slice as reject_slice
from .teaching.answering import PROPAGATE as PROPAGATE
from .teaching.answering import LessonJob as LessonJob
from .teaching.answering import directions as directions
from .teaching.answering import lesson_job as lesson_job
from .teaching.answering import propagate as propagate
from .teaching.answering import show_lesson as show_lesson
from .teaching.last_answers import Answered as Answered
from .teaching.last_answers import answer_axis as answer_axis
from .teaching.last_answers import answered as answered
from .teaching.last_answers import hide_painted as hide_painted
from .teaching.last_answers import holds_painted as holds_painted
from .teaching.last_answers import last_answer as last_answer
from .teaching.last_answers import next_slice as next_slice
from .teaching.lessons import doubtful_slice as doubtful_slice
from .teaching.lessons import interpolated as interpolated
from .teaching.lessons import show_answer as show_answer
from .teaching.lessons import take_over as take_over
from .teaching.lessons import with_painted as with_painted
from .teaching.painted_training import PaintedCase as PaintedCase
from .teaching.painted_training import check_model_name as check_model_name
from .teaching.painted_training import masks_worth_training_on as masks_worth_training_on
from .teaching.painted_training import painted_cases as painted_cases
from .teaching.painted_training import train_on_painted as train_on_painted
from .teaching.painted_training import write_training_set as write_training_set
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
from .visits.arranging import assign_visit as assign_visit
from .visits.arranging import close_patient as close_patient
from .visits.arranging import next_ordinal as next_ordinal
from .visits.arranging import read_visit as read_visit
from .visits.carrying import CarriedMask as CarriedMask
from .visits.carrying import CarryJob as CarryJob
from .visits.carrying import carried_unseen as carried_unseen
from .visits.carrying import carry as carry
from .visits.carrying import carry_mask as carry_mask
from .visits.carrying import carrying_job as carrying_job
from .visits.carrying import looked_at as looked_at
from .visits.carrying import show_carried as show_carried
from .visits.changes import change_in_words as change_in_words
from .visits.changes import show_change as show_change
from .visits.comparing import MOST_PANES as MOST_PANES
from .visits.comparing import exams_open as exams_open
from .visits.comparing import orthogonal as orthogonal
from .visits.comparing import side_by_side as side_by_side
from .visits.comparing import visits_open as visits_open
from .visits.landmarks import landmark_pairs as landmark_pairs
from .visits.landmarks import new_landmarks as new_landmarks
from .visits.onto_slider import add_visit as add_visit
from .visits.onto_slider import put_onto_slider as put_onto_slider
from .visits.ordering import move_visit as move_visit
from .visits.ordering import reorder_visits as reorder_visits
from .visits.ordering import set_visit_date as set_visit_date
from .visits.overlaid import Overlaid as Overlaid
from .visits.overlaid import OverlayJob as OverlayJob
from .visits.overlaid import overlay_job as overlay_job
from .visits.overlaid import prepare_overlay as prepare_overlay
from .visits.overlays import Overlay as Overlay
from .visits.overlays import close_overlay as close_overlay
from .visits.overlays import overlay as overlay
from .visits.overlays import overlay_of as overlay_of
from .visits.overlays import show_overlay as show_overlay

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
