"""The metrics of an evaluation, each declared in one place: name, needs, keys with their meaning, computation.

To add a metric, write one function here and declare it. The option ``--metrics``, ``evaluation.json``, the table that
`evaluate` prints and the HTML report take everything from the declaration::

    @metric("brightness", Needs.FEATURES, {"brightness": Description("mean of the features")})
    def _brightness(images: Measurements, results: Results) -> None:
        results.add("brightness", images.generated.features.mean(), real=images.real.features.mean())

A value alone says little: a Fréchet distance of 8 may be perfect for one number of images and poor for another, and a
judge that is wrong on 20 % of real images finds 20 % of perfect ones wrong. Give each value its real-vs-real baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntFlag

import numpy as np

from shards.core.errors import UserError
from shards.dataset.schema import WORDLESS
from trainer.evaluation.metrics import second_judge
from trainer.evaluation.metrics.distances import (
    NEIGHBOURS,
    Moments,
    frechet_distance,
    kernel_distance,
    kernel_distance_by_value,
    mean_of,
    support,
)
from trainer.evaluation.metrics.diversity import diversity
from trainer.evaluation.metrics.label_accuracy import LabelAccuracy, label_accuracy
from trainer.evaluation.metrics.measurements import ImageSet, Measurements, Panel, PanelRow, Results
from trainer.evaluation.metrics.memorization import QUANTILE, Memorization, memorization
from trainer.evaluation.metrics.spectrum import compare_spectra

_MAX_DOUBTS = 8  # attributes whose doubt is a note
_PANEL_COLUMNS, _PANEL_ROWS = 8, 8


class Needs(IntFlag):
    """Inputs of a metric. Metrics are computed, and their values listed, in the order of their needs."""

    LOGITS = 1  # the judge's logits of generated images, and its accuracy on real ones
    FEATURES = 2  # features of generated and of real images
    TRAINING_IMAGES = 4  # the real images are those that the generator was trained on
    SPECTRA = 8  # power spectra of generated and of real images


@dataclass(frozen=True)
class Description:
    """The meaning of a metric key.

    Attributes:
        meaning: one phrase; "{attribute}" stands for the attribute in keys of the form PREFIX/ATTRIBUTE.
        fraction: of images, in [0, 1], shown in per cent.
        lower_is_better: a smaller value means a better generator.
    """

    meaning: str
    fraction: bool = False
    lower_is_better: bool = False


@dataclass(frozen=True)
class Metric:
    """The declaration of a metric.

    Attributes:
        name: what ``--metrics`` calls it.
        needs: what it is computed from.
        keys: the keys that it adds to `Results.values`, with their meaning; "PREFIX/" stands for all keys
            PREFIX/ATTRIBUTE.
        compute: adds values, notes, details and panels to the results.
        panels: titles of the panels that it adds, by name.
        rewards_copies: copies of the training images would improve it, if these are what it compares with.
    """

    name: str
    needs: Needs
    keys: Mapping[str, Description]
    compute: Callable[[Measurements, Results], None]
    panels: Mapping[str, str] = field(default_factory=dict)
    rewards_copies: bool = True


METRICS: dict[str, Metric] = {}  # by name, in the order in which options list them
_NETWORKS = {name: f"features of {name}" for name in ("lite0", "lite1", "lite2", "judge", "inception")} | {
    second_judge.SUFFIX[1:]: "second judge"
}


def metric(
    name: str,
    needs: Needs,
    keys: Mapping[str, Description],
    panels: Mapping[str, str] | None = None,
    *,
    rewards_copies: bool = True,
) -> Callable[[Callable[[Measurements, Results], None]], Callable[[Measurements, Results], None]]:
    """Return a decorator that registers a function as the `Metric.compute` of a new metric; arguments as `Metric`'s."""

    def register(compute: Callable[[Measurements, Results], None]) -> Callable[[Measurements, Results], None]:
        METRICS[name] = Metric(name, needs, keys, compute, panels or {}, rewards_copies)
        return compute

    return register


def describe(key: str) -> Description:
    """Return the description of a key; an empty one if no metric declares it (a newer version may have).

    A key of further features or of the second judge ends in "@" and their name.
    """
    whole, at, network = key.rpartition("@")
    if at and network in _NETWORKS:
        found = describe(whole)
        return replace(found, meaning=f"{found.meaning} ({_NETWORKS[network]})") if found.meaning else found
    prefix, slash, attribute = key.partition("/")
    declaring = metric_of(key)
    if declaring is None:
        return Description("")
    declaration = declaring.keys[prefix + slash]
    return replace(declaration, meaning=declaration.meaning.format(attribute=attribute))


def metric_of(key: str) -> Metric | None:
    """Return the metric that declares a key; None if none does."""
    whole, at, network = key.rpartition("@")
    prefix, slash, _ = (whole if at and network in _NETWORKS else key).partition("/")
    return next((metric for metric in METRICS.values() if prefix + slash in metric.keys), None)


def panel_title(name: str) -> str:
    """Return the title of a panel; "" if no metric declares it."""
    return next((m.panels[name] for m in METRICS.values() if name in m.panels), "")


# ---------------------------------------------------------------- label accuracy


@metric(
    "fidelity",
    Needs.LOGITS,
    {
        "fidelity/": Description("images in which {attribute} is as labelled", fraction=True),
        "fidelity": Description("images in which the judge finds every attribute as labelled", fraction=True),
        "fidelity_new": Description(
            "label accuracy for combinations of values that never occur in the dataset", fraction=True
        ),
    },
    panels={"worst": "Worst label accuracy: generated images that should show these values and do not"},
)
def _label_accuracy(images: Measurements, results: Results) -> None:
    schema, real = images.schema, images.judge_accuracy
    assert real is not None
    generated = images.generated
    found = label_accuracy(schema, generated.logits, generated.label, generated.known, real=real)
    add_label_accuracy(found, real, results)
    if images.second_accuracy is not None:
        _confirm(images, found, images.second_accuracy, results)
    if (new := images.new_combinations) is not None:
        add_new_combinations(label_accuracy(schema, new.logits, new.label, new.known, real=real), results)
    rows = [
        PanelRow(f"{', '.join(c.words)}: {c.tally.right} of {c.tally.count} right", c.rows[:_PANEL_COLUMNS])
        for c in found.worst
        if c.rows
    ]
    results.panels += [Panel("worst", rows)] if rows else []


def _confirm(images: Measurements, first: LabelAccuracy, real: LabelAccuracy, results: Results) -> None:
    """Add what the second judge finds, and a warning if the two disagree."""
    generated = images.generated
    found = label_accuracy(images.schema, generated.second_logits, generated.label, generated.known, real=real)
    second = Results()
    add_label_accuracy(found, real, second)
    second.notes.clear()  # what it does not recognise is left out as with the first judge
    results.join(second, second_judge.SUFFIX[1:])
    assert images.judge_accuracy is not None
    if differing := second_judge.disagreements(first, found, images.judge_accuracy, real):
        results.warnings.append(("judges-disagree", second_judge.warning(differing)))


def add_label_accuracy(found: LabelAccuracy, judge: LabelAccuracy, results: Results) -> None:
    """Add the label accuracy per attribute and over all.

    Args:
        found: of generated images.
        judge: the judge's, on held-out real images.
    """
    doubtful = [attribute for attribute in found.attributes if attribute.doubt]
    for attribute in doubtful[:_MAX_DOUBTS]:
        results.notes.append(f"fidelity of {attribute.name} is left out: {attribute.doubt}")
    if (more := len(doubtful) - _MAX_DOUBTS) > 0:
        results.notes.append(f"fidelity of {more:,} more attributes is left out, for similar reasons")
    for attribute in found.attributes:
        if not attribute.doubt and attribute.tally.count:
            real = second_judge.accuracy(judge[attribute.name])
            results.add(f"fidelity/{attribute.name}", second_judge.accuracy(attribute), real)
    if found.whole.count and len(doubtful) < len(found.attributes):
        results.add("fidelity", found.whole.fraction, judge.whole.fraction if not doubtful else None)
    results.details |= {"fidelity": found.to_json(), "judge": judge.to_json()}


def add_new_combinations(found: LabelAccuracy, results: Results) -> None:
    """Add the label accuracy of combinations that the dataset lacks, if the judge recognises two or more attributes.

    Args:
        found: of images generated from such labels.
    """
    if sum(a.kind == "exclusive" and not a.doubt for a in found.attributes) < 2:
        results.notes.append("fidelity_new is left out: a combination needs two attributes that the judge recognises")
        return
    results.add("fidelity_new", found.whole.fraction)
    results.details["fidelity_new"] = {"count": found.whole.count, "right": found.whole.right}


# ---------------------------------------------------------------- distances between distributions


@metric(
    "fid",
    Needs.FEATURES,
    {"fid": Description("Fréchet distance of the features; lower is better", lower_is_better=True)},
)
def _frechet_distance(images: Measurements, results: Results) -> None:
    reference = Moments.of(images.reference.features)
    found = frechet_distance(reference, Moments.of(images.compared.features))
    results.add("fid", found.value, frechet_distance(reference, Moments.of(images.baseline.features)).value)
    results.notes += [found.warning] if found.warning else []


@metric(
    "kid",
    Needs.FEATURES,
    {
        "kid": Description(
            "kernel distance of the features; lower is better, 0 equals real images", lower_is_better=True
        ),
        "kid_by_value": Description(
            "mean kernel distance within each value; sensitive to whether labels are followed", lower_is_better=True
        ),
    },
)
def _kernel_distance(images: Measurements, results: Results) -> None:
    real = images.reference.features
    found, baseline = (kernel_distance(real, other.features) for other in (images.compared, images.baseline))
    results.add("kid", found.mean, baseline.mean)
    results.details["kid_std"] = {"figure": found.std, "real": baseline.std}
    _kernel_distance_by_value(images, results)


def _kernel_distance_by_value(images: Measurements, results: Results) -> None:
    """Add the mean of the kernel distances within each value."""
    schema, sets = images.schema, (images.reference, images.compared, images.baseline)
    entries = np.repeat([a.kind not in WORDLESS for a in schema.attributes], schema.widths)
    if not entries.any():
        return
    real, generated, other = sets
    has = [images.label[:, entries] > 0.5 for images in sets]
    found = kernel_distance_by_value(real.features, has[0], generated.features, has[1])
    baseline = kernel_distance_by_value(real.features, has[0], other.features, has[2])
    if (mean := mean_of(found)) is None:
        results.notes.append("kid_by_value is left out: no value has enough images; raise --count")
        return
    results.add("kid_by_value", mean, mean_of(baseline))
    results.details["kid_by_value"] = {
        value: {"figure": f and f.mean, "real": r and r.mean}
        for value, f, r in zip(schema.values, found, baseline, strict=True)
        if f is not None
    }


@metric(
    "prdc",
    Needs.FEATURES,
    {
        "precision": Description("generated images inside the manifold of real images", fraction=True),
        "recall": Description("real images inside the manifold of generated images", fraction=True),
        "density": Description("density of real images around generated images"),
        "coverage": Description("real images with a generated image nearby", fraction=True),
    },
)
def _support(images: Measurements, results: Results) -> None:
    sets = images.reference, images.compared, images.baseline
    if min(map(len, sets)) <= NEIGHBOURS:
        results.notes.append(f"precision and recall are left out: they need more than {NEIGHBOURS} images per set")
        return
    real, generated, other = (images.features for images in sets)
    found, baseline = support(real, generated), support(real, other)
    for key in ("precision", "recall", "density", "coverage"):
        results.add(key, getattr(found, key), getattr(baseline, key))


# ---------------------------------------------------------------- single images


@metric(
    "novelty",
    Needs.FEATURES | Needs.TRAINING_IMAGES,
    {
        "memorised": Description(
            "images as close to a training image as only 1 % of real images are", fraction=True, lower_is_better=True
        ),
        "copying": Description("z-score; below -3, closer to the training images than other real images are"),
    },
    panels={"nearest": "Nearest training images: has the generator memorized them?"},
    rewards_copies=False,
)
def _memorization(images: Measurements, results: Results) -> None:
    found = memorization(images.generated.features, images.real.features)
    if found.threshold == 0:
        results.notes.append("some training images occur twice, so only exact copies of them count as memorised")
    results.add("memorised", found.memorised, QUANTILE)
    results.add("copying", found.copying, 0.0)
    results.panels.append(_nearest_images(found))


def _nearest_images(found: Memorization) -> Panel:
    """Show the generated images that are nearest to a training image, each with its nearest training images."""
    chosen = np.argsort(found.distances[:, 0], kind="stable")[:_PANEL_ROWS].tolist()
    rows = [PanelRow(f"distance {found.distances[n, 0]:.3g}", [n], found.rows[n].tolist()) for n in chosen]
    return Panel("nearest", rows, ["generated", *(f"training {n}" for n in range(1, found.rows.shape[1] + 1))])


@metric(
    "diversity",
    Needs.FEATURES,
    {"diversity": Description("differences between images of one label, relative to those between real images")},
    rewards_copies=False,
)
def _diversity(images: Measurements, results: Results) -> None:
    generated, real = images.generated, images.real
    numbers = _label_numbers(generated, real)
    try:
        found = diversity(generated.features, numbers[0], real.features, numbers[1])
    except UserError as error:
        results.notes.append(f"diversity is left out: {error}")
        return
    results.add("diversity", found.ratio, 1.0)
    results.details["diversity"] = {"figure": found.generated, "real": found.real, "labels": found.labels}


def _label_numbers(*sets: ImageSet) -> list[np.ndarray]:
    """Number the distinct labels of all sets together; return the number of each image's label, per set."""
    labels = np.concatenate([np.concatenate([images.label, images.known], 1) for images in sets])
    _, numbers = np.unique(labels, axis=0, return_inverse=True)
    return np.split(numbers.reshape(-1), np.cumsum([len(images) for images in sets])[:-1])


# ---------------------------------------------------------------- sharpness


@metric(
    "spectrum",
    Needs.SPECTRA,
    {
        "spectrum": Description(
            "mean difference of the power spectra at high frequencies, in dB; blur and fine patterns raise it",
            lower_is_better=True,
        ),
        "period2": Description("power of patterns that repeat every second pixel, in dB above that of real images"),
    },
)
def _spectrum(images: Measurements, results: Results) -> None:
    size, reference = images.size, images.reference.spectra
    found, baseline = (compare_spectra(s.spectra, reference, size) for s in (images.compared, images.baseline))
    results.add("spectrum", found.gap, baseline.gap)
    results.add("period2", found.period2, baseline.period2)
    lines = {"generated": found.generated, "real": found.real, "other real images": baseline.generated}
    results.details["spectrum"] = {
        "cycles_per_pixel": found.frequencies.round(4).tolist(),
        "power_db": {name: line.round(3).tolist() for name, line in lines.items()},
    }
