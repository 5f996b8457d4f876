"""Keys of the metrics in `metrics.jsonl`, trackers and dashboards. They never change; see docs/tracking.md."""

from __future__ import annotations

CLOCK = "images_seen"

LOSS_D, LOSS_G = "loss/d", "loss/g"
LOSS_MISMATCH, LOSS_PENALTY = "loss/mismatch", "loss/penalty"
LOSS_CLASSES, LOSS_CLASSES_G = "loss/classes", "loss/classes_g"
LOSS_BETWEEN, LOSS_MODES = "loss/between", "loss/modes"
LOGIT_REAL, LOGIT_FAKE = "logit/real", "logit/fake"
GRAD_D, GRAD_G = "grad/d", "grad/g"
AUGMENT_SIGN, AUGMENT_P = "augment/sign", "augment/p"
SCHEDULE = "schedule/"  # followed by the name of what is scheduled

SPREAD = "samples/spread"
VARIETY = "samples/variety"
GRID = "samples/grid"  # images; trackers only
TABLE = "samples/table"  # words and images of each row of a grid; W&B only

EVALUATE = "evaluate/"  # followed by the name of a metric of `trainer.evaluation`
FIDELITY, KID = EVALUATE + "fidelity", EVALUATE + "kid"
FIDELITY_OF = FIDELITY + "/"  # followed by the name of an attribute

WRONG_SHARE, GUESSED, DAMAGED = "data/wrong_share", "data/guessed", "data/damaged"
SKIPPED = "guard/skipped"
SPEED = "speed/images_per_second"
