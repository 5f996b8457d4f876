"""Whether a second judge confirms the first: one of another architecture, trained from another seed.

A generator may learn to please one classifier without drawing what a label says, as adversarial images do; it hardly
pleases another in the same way.
"""

from __future__ import annotations

from trainer.evaluation.metrics.label_accuracy import AttributeAccuracy, LabelAccuracy

SUFFIX = "@judge2"  # of the keys of its values
_MAX_NAMED = 4  # attributes in a warning


def disagreements(
    first: LabelAccuracy, second: LabelAccuracy, real: LabelAccuracy, real_second: LabelAccuracy
) -> list[str]:
    """Return the attributes on which two judges of the same images differ by more than they may, and by how much.

    A judge that reads generated images as it reads real ones is wrong on at most one minus the lower end of the
    interval of its accuracy on real images, so two of them differ by at most the sum.

    Args:
        first, second: what each found in the same generated images.
        real, real_second: their accuracy on held-out real images.
    """
    found = []
    for one in first.attributes:
        two = second[one.name]
        if one.doubt or two.doubt or not one.tally.count:
            continue
        allowed = 2 - _lower_end(real[one.name]) - _lower_end(real_second[one.name])
        if abs(accuracy(one) - accuracy(two)) > allowed:
            found.append(f"{one.name} ({accuracy(one):.1%} and {accuracy(two):.1%})")
    return found


def warning(differing: list[str]) -> str:
    """Return what to tell about `disagreements`."""
    more = f" and {len(differing) - _MAX_NAMED} more" if len(differing) > _MAX_NAMED else ""
    return (
        "the two judges disagree by more than they err on real images about "
        f"{', '.join(differing[:_MAX_NAMED])}{more}: the images please one classifier without showing their labels; "
        "look at them, and trust neither figure"
    )


def accuracy(attribute: AttributeAccuracy) -> float:
    """Return the accuracy; balanced for a tag, as never drawing a rare tag would be right almost always."""
    return attribute.balanced if attribute.kind == "tag" else attribute.tally.fraction


def _lower_end(attribute: AttributeAccuracy) -> float:
    return (attribute.balanced_interval if attribute.kind == "tag" else attribute.tally.interval)[0]
