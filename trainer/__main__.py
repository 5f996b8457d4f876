"""`python -m trainer COMMAND`."""

import sys

from trainer.cgan import TRAINER, run

sys.exit(run(TRAINER, sys.argv[1:], "python -m trainer"))
