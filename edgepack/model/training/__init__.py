"""The one training loop: every pass that learns, learns here."""

from edgepack.model.training.checkpoint import discard
from edgepack.model.training.hooks import Hooks, hooks
from edgepack.model.training.loop import train
from edgepack.model.training.seams import Guide, History, Objective

__all__ = ["Guide", "History", "Hooks", "Objective", "discard", "hooks", "train"]
