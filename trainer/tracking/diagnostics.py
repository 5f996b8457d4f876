"""Diagnose from the logged metrics what goes wrong in a training, and name the options to change."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer import metric_names

_FIRST, _LASTING = 10, 3  # rows to skip at the start, and consecutive rows that must agree: a row is of one batch
_NEW_RUN = "in a new --run"

_SATURATED, _VANISHED = "discriminator-saturated", "gradient-vanished"
_COLLAPSE, _ALIKE = "mode-collapse", "images-alike"
_SHOWN_BY = {  # the metric without which a row does not tell whether it has the problem
    _SATURATED: metric_names.LOSS_D,
    _VANISHED: metric_names.GRAD_G,
    _COLLAPSE: metric_names.SPREAD,
    _ALIKE: metric_names.VARIETY,
}


def diagnose(row: Mapping[str, float], usual_gradient: float) -> dict[str, str]:
    """Return a message by code for each problem that a row of metrics shows.

    The thresholds are far from the values of a healthy training:

    - Saturated discriminator: a D that cannot discriminate has a loss of 0.25 (least squares) to 2 (hinge); 0.02 is
      less than a tenth of the smallest. The logits must differ too, by half of the target distance of 1 of least
      squares; the distance of other losses is larger.
    - Vanishing gradient: the norm of G's gradient changes by small factors from step to step, never to a thousandth of
      its usual value. (Adam still makes steps of full size from it, mostly noise.)
    - Mode collapse: the standard deviation of generated images is below a tenth of that of real images. Images that
      depend on their label alone are above that: this detects one image for everything.
    - Images alike: two images of one label differ by less than a fifth of what real ones do. A run that drew one image
      per label ended at 0.05, good ones between 0.56 and 0.96 (docs/benchmarks.md, other data).

    Args:
        row: logged metrics; missing ones are healthy.
        usual_gradient: geometric mean of `grad/g` over the previous rows.
    """
    found = {}
    loss = row.get(metric_names.LOSS_D, math.nan)
    gap = row.get(metric_names.LOGIT_REAL, math.nan) - row.get(metric_names.LOGIT_FAKE, math.nan)
    if loss < 0.02 and gap > 0.5:
        found[_SATURATED] = (
            f"the discriminator separates all images (loss/d {loss:.2g}, logits of real and generated images differ by "
            f"{gap:.2g}) and gives the generator little signal; raise --gamma, lower --lr-d or add --augment ada, "
            f"{_NEW_RUN}"
        )
    gradient = row.get(metric_names.GRAD_G, math.nan)
    if gradient < 1e-3 * usual_gradient:
        found[_VANISHED] = (
            f"the generator's gradient has almost vanished (grad/g {gradient:.2g}, usually {usual_gradient:.2g}); "
            f"lower --lr-d or raise --gamma, or use --loss relativistic, {_NEW_RUN}"
        )
    spread = row.get(metric_names.SPREAD, math.nan)
    if spread < 0.1:
        found[_COLLAPSE] = (
            f"generated images are nearly identical (samples/spread {spread:.2g}; 1 is the diversity of real images); "
            f"lower --lr-g and --lr-d, raise --gamma, or raise --batch, {_NEW_RUN}"
        )
    variety = row.get(metric_names.VARIETY, math.nan)
    if variety < 0.2:
        found[_ALIKE] = (
            f"generated images of one label are nearly identical (samples/variety {variety:.2g}; 1 is the variety of "
            f"real images); add --mode-seeking 0.3, or double it without --mode-seeking-end, "
            f"{_NEW_RUN}"
        )
    return found


class Diagnostics:
    """Reports each problem once, when several consecutive rows show it; the first rows of a run are ignored."""

    def __init__(self) -> None:
        self._rows, self._logarithms, self._with_gradient = 0, 0.0, 0
        self._lasted: dict[str, int] = {}
        self._reported: set[str] = set()

    def update(self, row: Mapping[str, float]) -> dict[str, str]:
        """Add a row and return the messages, by code, that are new."""
        usual = math.exp(self._logarithms / self._with_gradient) if self._with_gradient else 0.0
        found = diagnose(row, usual)
        gradient = row.get(metric_names.GRAD_G, math.nan)
        if 0 < gradient < math.inf:
            self._logarithms, self._with_gradient = self._logarithms + math.log(gradient), self._with_gradient + 1
        self._rows += 1
        if self._rows <= _FIRST:
            return {}
        silent = {code: rows for code, rows in self._lasted.items() if _SHOWN_BY[code] not in row}
        self._lasted = silent | {code: self._lasted.get(code, 0) + 1 for code in found}
        new = [code for code, rows in self._lasted.items() if rows >= _LASTING and code not in self._reported]
        self._reported.update(new)
        return {code: found[code] for code in new}
