"""Image sets by name, with class names and text templates: for classification, for spurious cues, and with object masks."""

from .common import ROOT, take
from .groups import GroupTask, load_groups, waterbirds
from .masks import MaskTask, load_masks
from .tasks import Task, load_task

__all__ = ["ROOT", "GroupTask", "MaskTask", "Task", "load_groups", "load_masks", "load_task", "take", "waterbirds"]
