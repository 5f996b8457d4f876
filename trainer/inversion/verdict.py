"""Say how near a drawing came to an image, compared with what the same search reaches elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.inversion.search import Inversion, Settings

_BETTER = 1.0  # dB that a drawing must be nearer than a random one to count


def verdict(
    found: Inversion, reached: Mapping[str, Sequence[Inversion]], settings: Settings, features: str | None
) -> str:
    """Return sentences about how near a drawing came.

    Args:
        found: of the image.
        reached: what the same search found of drawings of the generator ("own"), and of images of the dataset that it
            has not seen ("held_out"); both may be missing.
        settings: of the search.
        features: name of the network of feature distances; None without one.
    """
    own, held_out = reached.get("own", ()), reached.get("held_out", ())
    distance = "" if features is None else f", feature distance {found.feature_distance:.3f} ({features})"
    said = [
        f"The drawing is {found.psnr:.1f} dB from the image (PSNR, higher is nearer{distance}); "
        f"the nearest of {found.draws:,} random drawings is at {found.nearest_psnr:.1f} dB."
    ]
    is_whole = cut_short(found, reached, settings) is None
    for inversions, image, rest in ((own, "drawing", "of the generator itself"), (held_out, "held-out image", "")):
        if inversions:
            images = f"{len(inversions)} {image}{'s' if len(inversions) > 1 else ''} {rest}".strip()
            said.append(f"The {'same ' if is_whole else ''}search reaches {_range(inversions)} on {images}.")
    if not is_whole:
        return " ".join([*said, "The search was cut short, so no conclusion is drawn."])
    return " ".join([*said, _conclusion(found, own, held_out)])


def cut_short(found: Inversion, reached: Mapping[str, Sequence[Inversion]], settings: Settings) -> str | None:
    """Return a sentence about how many steps the time limit left; None if it left all."""
    others = [each.steps for inversions in reached.values() for each in inversions]
    if min([found.steps, *others]) == settings.steps:
        return None
    steps = f"{found.steps:,} of {settings.steps:,} steps for the image"
    if others:
        low, high = min(others), max(others)
        steps += f", {low:,}" + (f" to {high:,}" if high > low else "") + " for what it is compared with"
    return f"--minutes ended the search early (after {steps}), so another run may find something else"


def _range(inversions: Sequence[Inversion]) -> str:
    low, high = min(i.psnr for i in inversions), max(i.psnr for i in inversions)
    return f"{low:.1f} dB" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f} dB"


def _conclusion(found: Inversion, own: Sequence[Inversion], held_out: Sequence[Inversion]) -> str:
    if own and found.psnr >= min(i.psnr for i in own):
        return "So the generator can draw this image about as well as any."
    if held_out and found.psnr >= min(i.psnr for i in held_out):
        return "So it is drawn as well as images of the dataset are, and less well than the generator's own."
    if found.psnr < found.nearest_psnr + _BETTER:
        return "So the search found hardly anything nearer than chance: this generator does not draw such images."
    if own:
        return "So this is the most similar drawing that was found, and not the image itself."
    return "How near that is cannot be said without --references."
