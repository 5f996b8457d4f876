"""The keys of what a run logs, as `metrics.jsonl`, trackers and dashboards know them. They stay as they are.

Every other place takes them from here; docs/tracking.md says what each one means.
"""

from __future__ import annotations

CLOCK = "images_seen"

LOSS_D, LOSS_G = "loss/d", "loss/g"
LOSS_MISMATCH, LOSS_PENALTY = "loss/mismatch", "loss/penalty"
LOSS_CLASSES, LOSS_CLASSES_G = "loss/classes", "loss/classes_g"
LOSS_BETWEEN = "loss/between"
LOGIT_REAL, LOGIT_FAKE = "logit/real", "logit/fake"
GRAD_D, GRAD_G = "grad/d", "grad/g"
AUGMENT_SIGN, AUGMENT_P = "augment/sign", "augment/p"
SCHEDULE = "schedule/"  # and the name of what moves

SPREAD = "samples/spread"
GRID = "samples/grid"  # pictures; trackers only

EVALUATE = "evaluate/"  # and the name of a figure of `trainer.evaluation.metrics.registry`
FIDELITY, KID = EVALUATE + "fidelity", EVALUATE + "kid"
FIDELITY_OF = FIDELITY + "/"  # and the name of an attribute

WRONG_SHARE, DAMAGED = "data/wrong_share", "data/damaged"
SKIPPED = "guard/skipped"
SPEED = "speed/images_per_second"
