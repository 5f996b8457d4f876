"""What a row of metrics says of a training that goes wrong, and which option to change."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer import metric_names

_FIRST, _LASTING = 10, 3  # rows before anything is said, and rows in a row that must agree: a row is one batch's
_ELSEWHERE = "under another --run"


def advice(row: Mapping[str, float], usual_gradient: float) -> dict[str, str]:
    """A sentence by kind, for each kind of trouble that a row shows.

    The thresholds follow from what the numbers are, far from what a sound training has:

    - D is sure: a D that knows nothing has a loss of 0.25 (least squares) to 2 (hinge); 0.02 is below a tenth of the
      least of them. Logits must be apart too, by half of the 1 that least squares ask for; other losses ask for more.
    - G's gradient vanishes: from step to step it changes by small factors; a thousandth of its usual norm is none of
      them. (Adam makes steps of full size from it all the same, of what is mostly noise.)
    - Pictures are alike: their standard deviation is below a tenth of the real ones'. Pictures that follow their labels
      and nothing else are above that, so this finds a G that draws one picture, not one that draws one a label.

    Args:
        row: metrics as they are logged; what is missing shows nothing.
        usual_gradient: of the rows so far, the geometric mean of `grad/g`.
    """
    found = {}
    loss = row.get(metric_names.LOSS_D, math.nan)
    gap = row.get(metric_names.LOGIT_REAL, math.nan) - row.get(metric_names.LOGIT_FAKE, math.nan)
    if loss < 0.02 and gap > 0.5:
        found["saturated"] = (
            f"the discriminator is sure of every picture (loss/d {loss:.2g}, logits of real and generated pictures "
            f"{gap:.2g} apart) and teaches little; raise --gamma, lower --lr-d, or add --augment ada, {_ELSEWHERE}"
        )
    gradient = row.get(metric_names.GRAD_G, math.nan)
    if gradient < 1e-3 * usual_gradient:
        found["vanishing"] = (
            f"the generator's gradient has all but vanished (grad/g {gradient:.2g}, usually {usual_gradient:.2g}); "
            f"lower --lr-d or raise --gamma, or use --loss relativistic, {_ELSEWHERE}"
        )
    spread = row.get(metric_names.SPREAD, math.nan)
    if spread < 0.1:
        found["alike"] = (
            f"generated pictures are nearly all the same (samples/spread {spread:.2g}, where 1 is as different as real "
            f"ones); lower --lr-g and --lr-d, raise --gamma, or raise --batch, {_ELSEWHERE}"
        )
    return found


class Adviser:
    """Says each kind of advice once, when it has held for some rows, and not of the first rows of a run."""

    def __init__(self) -> None:
        self._rows, self._logarithms, self._with_gradient = 0, 0.0, 0
        self._lasted: dict[str, int] = {}
        self._said: set[str] = set()

    def look(self, row: Mapping[str, float]) -> list[str]:
        """Take in a row; the sentences that are new."""
        usual = math.exp(self._logarithms / self._with_gradient) if self._with_gradient else 0.0
        found = advice(row, usual)
        gradient = row.get(metric_names.GRAD_G, math.nan)
        if 0 < gradient < math.inf:
            self._logarithms, self._with_gradient = self._logarithms + math.log(gradient), self._with_gradient + 1
        self._rows += 1
        if self._rows <= _FIRST:
            return []
        self._lasted = {kind: self._lasted.get(kind, 0) + 1 for kind in found}
        new = [kind for kind, rows in self._lasted.items() if rows >= _LASTING and kind not in self._said]
        self._said.update(new)
        return [found[kind] for kind in new]
