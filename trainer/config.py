"""Everything that can be chosen about a run, in one frozen dataclass.

A run's configuration is a preset, overlaid by a YAML file, overlaid by the command line. It is checked when
it is made, printed, and saved beside the weights; the same command finds it there and goes on.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError
from shards.stream.sampling import ORDERS, Sampling
from shards.stream.wrong_labels import WRONG_LABELS
from trainer.presets import PRESETS
from trainer.schedules import SHAPES

# What may change when a run goes on: how long, how often, by whom it is carried. Anything else is another run.
MAY_CHANGE = frozenset(
    "total_images log_every grid_every checkpoint_every keep workers threads device accumulate timeout "
    "log_with wandb_project wandb_entity wandb_group wandb_mode dry_run init_from shards run "
    "cache cache_limit damaged_limit skip_limit compile evaluate_every best_by".split()
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a conditional GAN on a packed data set; the same command again goes on where it stopped."""

    # data and place
    shards: str | None = option(
        None, "data set made by `python -m shards pack`: a directory, or a URL (s3://, https://, …)"
    )
    run: Path | None = option(None, "directory of the run; the default is runs/PRESET, in a sweep runs/sweep-ID/RUN-ID")
    preset: str | None = option(None, "named set of options to start from", choices=tuple(PRESETS))
    init_from: Path | None = option(None, "start a new run from this run's newest weights")
    # where pictures come from, and in what order
    cache: Path | None = option(
        None, "local folder to copy shards to; for URLs ~/.cache/cgan-trainer/shards if not given"
    )
    cache_limit: float = option(50, "GB of shards to keep there, the last used ones", above=0)
    order: str = option(
        "auto",
        "full: an epoch is one shuffle; windowed: few shards in use at a time; auto: windowed where there is a cache",
        choices=("auto", *ORDERS),
    )
    window: int = option(16, "shards that the windowed order shuffles together", minimum=1)
    unlabelled_share: float | None = option(
        None, "share of each batch that pictures without labels have; as they come if not given", minimum=0, maximum=1
    )
    balance: str | None = option(None, "attribute whose values are to be shown equally often")
    skip_limit: int = option(
        20, "steps in a row that may be skipped for gradients that are not finite; then the run ends", minimum=0
    )
    damaged_limit: float = option(
        0.001, "share of damaged pictures, replaced by others, above which the run ends", minimum=0, maximum=1
    )
    # how long, how often (all in images seen)
    total_images: int = option(200_000, "images to train on in all", minimum=1)
    batch: int = option(64, "images a step, over all processes together", minimum=1)
    accumulate: int = option(1, "micro-batches that each process's share of the batch is cut into", minimum=1)
    log_every: int = option(2_000, "images between two lines of metrics", minimum=1)
    grid_every: int = option(20_000, "images between two picture grids", minimum=1)
    checkpoint_every: int = option(20_000, "images between two checkpoints", minimum=1)
    keep: int = option(3, "checkpoints to keep, the newest ones", minimum=1)
    evaluate_every: int | None = option(
        None, "images between two small evaluations by a judge of the labels; none if not given", minimum=1
    )
    best_by: str = option(
        "fidelity", "what of them decides which checkpoint is kept as the best", choices=("fidelity", "kid")
    )
    seed: int = option(0, "decides sample order, weights and noise", minimum=0, maximum=2**63 - 1)
    # networks
    family: str = option("r3gan", "networks", choices=("residual", "r3gan", "article"))
    noise_size: int = option(64, "length of the noise vector", minimum=1)
    label_size: int = option(64, "length of the label's embedding in the generator (not article)", minimum=1)
    channels: tuple[int, ...] = option(
        (), "channels of each level, from 4x4 or 6x6 up; chosen by size if not given", minimum=1
    )
    blocks: int | None = option(
        None, "residual blocks of each level; if not given, 1 in residual and 2 in r3gan", minimum=1
    )
    expansion: int = option(2, "how many times wider r3gan's grouped convolutions are than its levels", minimum=1)
    group_width: int = option(16, "channels of a group in them", minimum=1)
    conditioning: str = option(
        "auto",
        "how the label enters the discriminator: held against a picture's features by projection or concatenation, "
        "as a plane of the picture, or not at all: a classifier names it; auto: plane in article, projection elsewhere",
        choices=("auto", "projection", "concatenation", "plane", "classifier"),
    )
    classifier_weight: float = option(1.0, "weight of what a classifier makes of pictures, in both losses", minimum=0)
    spectral_norm: bool = option(
        False, "divide the discriminator's weights by their largest singular value; generators then end in a tanh"
    )
    # method
    loss: str = option(
        "relativistic",
        "adversarial loss; matching-aware is the non-saturating logistic one",
        choices=("matching-aware", "hinge", "least-squares", "relativistic"),
    )
    mismatch: str = option(
        "real", "what the discriminator sees under a wrong label", choices=("real", "generated", "none")
    )
    wrong: str = option(
        "sample",
        "a wrong label is that of another picture (sample), or the right one with one attribute of that (hard)",
        choices=WRONG_LABELS,
    )
    mismatch_weight: float = option(1.0, "weight of that part of its loss", minimum=0)
    interpolate: float = option(
        0.0, "weight of what the generator learns half way between a right and a wrong label (GAN-INT)", minimum=0
    )
    gamma: float = option(1.0, "weight of the R1 and R2 gradient penalties; 0: none", minimum=0)
    d_steps: int = option(1, "batches, each an update of the discriminator, to one update of the generator", minimum=1)
    penalty_every: int = option(16, "steps between two penalties, each counting as many times", minimum=1)
    # augmentation of what the discriminator sees
    augment: str = option(
        "none",
        "how pictures are changed before the discriminator sees them; against learning few of them by heart",
        choices=("none", "diff", "ada"),
    )
    augment_kinds: tuple[str, ...] = option(
        ("color", "translation", "cutout"), "changes of diff", choices=("color", "translation", "cutout")
    )
    augment_p: float = option(1.0, "probability that diff changes a picture", minimum=0, maximum=1)
    augment_p_end: float | None = option(
        None, "where --augment-p goes, along a cosine; it stays if not given", minimum=0, maximum=1
    )
    flip: bool = option(False, "pictures may be mirrored by diff and ada; not for text and glyphs")
    ada_target: float = option(
        0.6, "mean sign of D's logits of real pictures that ada holds; less: changes more", above=-1, maximum=1
    )
    ada_speed: float = option(500_000, "images in which ada's probability can go from 0 to 1", above=0)
    # optimization
    lr_g: float = option(1e-3, "generator's learning rate (Adam)", above=0)
    lr_d: float = option(1e-3, "discriminator's learning rate (Adam)", above=0)
    betas: tuple[float, float] = option((0.0, 0.95), "Adam's betas", minimum=0, maximum=0.999999)
    warmup_images: int = option(0, "images over which both learning rates rise from 0", minimum=0)
    decay: str = option("none", "how both learning rates fall after that", choices=SHAPES)
    decay_to: float = option(0.0, "share of them that is left in the end", minimum=0, maximum=1)
    decay_images: int | None = option(
        None, "images seen at which --decay and all options that end in -end have arrived", minimum=1
    )
    gamma_end: float | None = option(None, "where --gamma goes, along a cosine; it stays if not given", minimum=0)
    beta2_end: float | None = option(
        None, "where the second of --betas goes, along a cosine; it stays if not given", minimum=0, maximum=0.999999
    )
    ema_half_life: float = option(
        20_000, "images after which old weights count half in the averaged generator", minimum=0
    )
    ema_half_life_end: float | None = option(
        None, "where --ema-half-life goes, along a cosine; it stays if not given", minimum=0
    )
    ema_ramp: float = option(0.1, "cap on that half-life, as a share of the images seen so far; 0: no cap", minimum=0)
    # machine
    mixed_precision: str = option("auto", "auto: what the hardware does fast", choices=("auto", "no", "bf16", "fp16"))
    compile: bool = option(
        False,
        "torch.compile the networks: a slow start for quicker steps; on a CPU it needs g++ or clang++",
    )
    dtype: str = option("float32", "of weights and arithmetic; float64 is for proofs", choices=("float32", "float64"))
    device: str = option(
        "auto", "auto: a CUDA GPU if there is one, else the CPU", choices=("auto", "cpu", "cuda", "mps")
    )
    workers: int | None = option(
        None, "data-loading processes of each process; chosen by the machine if not given", minimum=0
    )
    threads: int = option(0, "CPU threads of each process; 0: the machine's cores shared out", minimum=0)
    timeout: float = option(300, "seconds before a process that waits for a lost one gives up", above=0)
    # seen
    log_with: tuple[str, ...] = option(
        ("wandb",), "trackers: wandb, tensorboard, trackio, …; none for metrics.jsonl only"
    )
    wandb_project: str | None = option(
        None, "Weights & Biases project; the default is WANDB_PROJECT, then cgan-trainer"
    )
    wandb_entity: str | None = option(None, "Weights & Biases team or user")
    wandb_group: str | None = option(None, "Weights & Biases group")
    wandb_mode: str | None = option(
        None, "auto: online when a key is there", choices=("auto", "online", "offline", "disabled")
    )
    dry_run: bool = option(False, "print the resolved options and what would be trained, then stop")

    def __post_init__(self) -> None:
        """Hold every value against its bounds.

        Raises:
            UserError: a value, or a combination of them, makes no sense.
        """
        cli.validate(self)
        self._check_networks()
        self._check_classifier()
        self._check_schedules()
        if self.loss == "relativistic" and 0 in (self.gamma, self.gamma_end):
            name = "gamma" if self.gamma == 0 else "gamma-end"
            raise UserError(
                f"--{name} 0: the relativistic loss diverges without its gradient penalties; use a --{name} above 0"
            )
        if self.augment == "diff" and not self.augment_kinds:
            raise UserError("--augment-kinds names no change for --augment diff; name some, or use --augment none")
        if self.augment == "none" and self.flip:
            raise UserError("--flip: nothing is mirrored without augmentation; add --augment diff or --augment ada")
        if self.augment != "diff" and (self.augment_p != 1 or self.augment_p_end is not None):
            name = "augment-p" if self.augment_p != 1 else "augment-p-end"
            why = (
                "ada finds its own probability" if self.augment == "ada" else "nothing is changed without augmentation"
            )
            raise UserError(f"--{name}: {why}; leave it out, or use --augment diff")
        if self.unlabelled_share == 1:
            raise UserError("--unlabelled-share 1 leaves nothing to learn labels from; give a share below 1")
        if self.dtype == "float64" and self.mixed_precision not in ("auto", "no"):
            raise UserError("--dtype float64 has no mixed precision; leave --mixed-precision out")

    def _check_networks(self) -> None:
        if self.family == "article" and self.channels:
            raise UserError(
                "--channels: the article's networks have fixed channels; leave it out, or use --family residual"
            )
        if self.family == "article" and self.blocks:
            raise UserError(
                "--blocks: the article's networks have no residual blocks; leave it out, or use --family residual"
            )
        for name in ("expansion", "group_width"):
            if self.family != "r3gan" and getattr(self, name) != getattr(Config, name):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag}: only r3gan has grouped convolutions; leave it out, or use --family r3gan")

    def _check_classifier(self) -> None:
        if self.conditioning != "classifier":
            if self.classifier_weight != 1:
                raise UserError("--classifier-weight: there is no classifier; add --conditioning classifier")
        elif self.classifier_weight == 0:
            raise UserError("--classifier-weight 0: nothing would teach labels; give a weight above 0")
        elif self.mismatch != "none" and self.mismatch_weight:
            raise UserError(
                f"--mismatch {self.mismatch}: with --conditioning classifier the discriminator's logits do not look at "
                "labels, so that a wrong one teaches nothing; use --mismatch none"
            )

    def _check_schedules(self) -> None:
        ends = ("gamma_end", "beta2_end", "ema_half_life_end", "augment_p_end")
        used = ["decay"] if self.decay != "none" else []
        used += [name.replace("_", "-") for name in ends if getattr(self, name) is not None]
        if used and self.decay_images is None:
            raise UserError(
                f"--{used[0]} needs --decay-images, the images seen at which it arrives (--total-images may grow, "
                "a schedule may not)"
            )
        if not used and self.decay_images is not None:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in ends)
            raise UserError(f"--decay-images: nothing changes over them; add --decay or one of {flags}")
        if self.decay == "none" and self.decay_to:
            raise UserError("--decay-to: the learning rates do not fall; add --decay cosine or --decay linear")
        if self.decay != "none" and (self.decay_images or 0) <= self.warmup_images:
            raise UserError(
                f"--decay-images {self.decay_images} is not after --warmup-images {self.warmup_images}; give more"
            )

    @property
    def sampling(self) -> Sampling:
        """How pictures are drawn, once `order` is resolved."""
        return Sampling(self.order, self.window, self.unlabelled_share, self.balance)

    @property
    def run_directory(self) -> Path:
        """Where the run lives."""
        return self.run or Path("runs") / (self.preset or "run")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as saved in config.yaml and the checkpoints."""
        values = {name: _plain(value) for name, value in dataclasses.asdict(self).items()}
        return values | {"shards": self.shards and _without_secrets(str(self.shards))}


def from_dict(values: Mapping[str, Any], where: str) -> Config:
    """A configuration from plain values.

    Args:
        where: what file they come from, for the error's sentence.

    Raises:
        UserError: an unknown option or a value that does not fit.
    """
    return Config(**_coerce_all(values, where))


def load(argv: Sequence[str]) -> Config:
    """The configuration that a command line asks for: preset < --config FILE.yaml < flags.

    A classifier knows no wrong labels: what a preset or the default says of --mismatch is not meant for it. Runs of a
    W&B sweep have directories of their own.

    Raises:
        UserError: anything on the way does not fit.
    """
    flags = cli.read(Config, argv, also=("config",))
    file = flags.pop("config", None)
    chosen = _coerce_all(_read_yaml(Path(file)), file) if file else {}
    chosen |= _coerce_all(flags, "")
    preset = cli.coerce(Config, "preset", chosen.get("preset"))
    base = _coerce_all(PRESETS[preset], f"preset {preset}") if preset else {}
    if (base | chosen).get("conditioning") == "classifier":
        base["mismatch"] = "none"
    if (place := _place_in_sweep()) is not None:
        base["run"] = place
    return Config(**(base | chosen))


def _place_in_sweep() -> Path | None:
    """The directory of this run of a W&B sweep, as `wandb agent` names both to the processes it starts; else None.

    A sweep's command line cannot name it: the agent fills in ${envvar:WANDB_RUN_ID} before it sets it, so that a run
    would have its predecessor's. A run that the agent starts again has the same id, and so goes on.

    Raises:
        UserError: one of the ids is no name of a folder.
    """
    ids = [os.environ.get(name, "") for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID")]
    if not all(ids):
        return None
    if not all(re.fullmatch(r"[\w-][\w.-]*", name) for name in ids):
        raise UserError(f"WANDB_SWEEP_ID {ids[0]!r} and WANDB_RUN_ID {ids[1]!r} make no folder's name; give a --run")
    return Path("runs", f"sweep-{ids[0]}", ids[1])


def usage(command: str) -> str:
    """The help text, with the presets."""
    width = max(map(len, PRESETS)) + 2
    presets = "\n".join(f"  {name:<{width}}{values['doc']}" for name, values in PRESETS.items())
    text = cli.usage(
        Config, command, {"config": "YAML file of these options; flags win over it, it wins over the preset"}
    )
    return f"{text}\n\npresets:\n{presets}"


def compare(saved: Mapping[str, Any], asked: Config) -> list[str]:
    """What differs between a run's saved options and the ones asked for, one line each, of those that may not."""
    now = asked.to_dict()
    # An option that is younger than the run had its default; what "auto" was then is "full".
    there = Config().to_dict() | {"order": "full"} | dict(saved)
    return [
        f"  {name.replace('_', '-')}: {there[name]} there, {now[name]} now"
        for name in now
        if name not in MAY_CHANGE and name != "preset" and there[name] != now[name]
    ]


def _coerce_all(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = list(cli.interface(Config).fields)
    result = {}
    for written, value in values.items():
        name = str(written).replace("-", "_")
        if name == "doc":
            continue
        if name not in known:
            raise UserError(cli.unknown(name, known, where))
        result[name] = cli.coerce(Config, name, value, where)
    return result


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError) as error:  # no UTF-8; a date that no calendar has
        raise UserError(f"--config {path} is no readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values or {}, dict):
        raise UserError(f"--config {path}: expected lines like `batch: 64`")
    return values or {}


def _without_secrets(where: str) -> str:
    """A URL without its password, and without a query, which may be a signature; a folder as it is."""
    if "://" not in where:
        return where
    parts = urlsplit(where)
    _, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, ("***@" if at else "") + host, parts.path, "", ""))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
