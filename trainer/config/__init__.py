"""All options of a training run, in sections: a preset, overridden by a YAML file, overridden by the command line.

Every part of the trainer receives its own section. Flags and ``config.yaml`` are flat: `load` distributes them over the
sections, and `Config.to_dict` joins them again. Nothing here imports torch, so a mistake is reported at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from shards.core import cli, text_files
from shards.core.cli import option, section, seed_option
from shards.core.errors import UserError
from shards.stream.sampling import check_division
from trainer.config.augmentation import AugmentationConfig
from trainer.config.data import DataConfig
from trainer.config.machine import MachineConfig
from trainer.config.method import JOINT_LOSSES, MethodConfig
from trainer.config.monitoring import EvaluationConfig, TrackingConfig
from trainer.config.network import CLASSIFYING, EMBEDDING_ENTRIES, NetworkConfig
from trainer.config.optimization import FITS, OptimConfig, ScheduleConfig
from trainer.presets import PRESETS

# Where options of schedules start, and where they end.
_SCHEDULED = {
    "gamma": "gamma_end",
    "mode_seeking": "mode_seeking_end",
    "betas": "beta2_end",
    "ema_half_life": "ema_half_life_end",
    "augment_p": "augment_p_end",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a conditional GAN on a packed dataset. Re-run the same command to resume."""

    # The order of options in --help and of keys in config.yaml; an option that is not listed follows at the end.
    OPTION_ORDER: ClassVar[tuple[str, ...]] = tuple(
        "shards run preset init_from freeze_d "
        "cache cache_limit decoded_cache order window unlabelled_share balance skip_limit damaged_limit "
        "total_images minutes fit batch accumulate log_every grid_every checkpoint_every keep evaluate_every best_by "
        "seed "
        "family noise_size label_size channels blocks expansion group_width resize image_kernel modulation level_means "
        "conditioning classifier_weight spectral_norm label_loss pseudo_labels "
        "loss mismatch wrong mismatch_weight interpolate mode_seeking gamma d_steps updates penalty_every "
        "augment augment_kinds augment_p augment_p_end flip ada_target ada_speed "
        "lr_g lr_d betas warmup_images decay decay_to decay_images cooldown cooldown_to gamma_end "
        "mode_seeking_end beta2_end "
        "ema_half_life ema_half_life_end ema_ramp ema_snapshots "
        "mixed_precision penalty_precision deterministic compile dtype device workers threads timeout "
        "log_with wandb_project wandb_entity wandb_group wandb_mode wandb_artifacts dry_run".split()
    )

    run: Path | None = option(
        None, "run directory (default: runs/PRESET; in a sweep: runs/sweep-ID/RUN-ID)", may_change=True
    )
    preset: str | None = option(None, "named set of options to start from", choices=tuple(PRESETS), may_change=True)
    init_from: Path | None = option(
        None,
        "start a new run from the weights of this run, exported generator or hf://user/name, whose labels are matched "
        "by name",
        may_change=True,
    )
    seed: int = seed_option("seed of the sample order, the initial weights and the noise")
    dry_run: bool = option(False, "print the resolved options and what would be trained, then exit", may_change=True)
    data: DataConfig = section(DataConfig)
    network: NetworkConfig = section(NetworkConfig)
    method: MethodConfig = section(MethodConfig)
    augmentation: AugmentationConfig = section(AugmentationConfig)
    optim: OptimConfig = section(OptimConfig)
    schedule: ScheduleConfig = section(ScheduleConfig)
    machine: MachineConfig = section(MachineConfig)
    tracking: TrackingConfig = section(TrackingConfig)
    evaluation: EvaluationConfig = section(EvaluationConfig)

    def __post_init__(self) -> None:
        """Validate what concerns several sections; each section has validated itself.

        Raises:
            UserError: a value is out of bounds, or two options contradict each other.
        """
        cli.validate(self)
        self._check_penalty()
        self._check_mode_seeking()
        self._check_classifier()
        self._check_label_loss()
        self._check_pseudo_labels()
        self._check_joint()
        if self.schedule.augment_p_end is not None:
            self.augmentation.require_given_p("augment-p-end")

    def _check_penalty(self) -> None:
        for name, gamma in (("gamma", self.method.gamma), ("gamma-end", self.schedule.gamma_end)):
            if self.method.loss == "relativistic" and gamma == 0:
                raise UserError(
                    "option-conflict",
                    f"--{name} 0: the relativistic loss diverges without gradient penalties; use a --{name} above 0",
                )

    def _check_mode_seeking(self) -> None:
        if self.schedule.mode_seeking_end is not None and not self.method.mode_seeking:
            raise UserError(
                "option-without-effect",
                "--mode-seeking-end: mode seeking is off; add --mode-seeking, the weight at the start",
            )

    def _check_classifier(self) -> None:
        method = self.method
        if self.network.conditioning not in CLASSIFYING:
            if method.classifier_weight != 1:
                raise UserError(
                    "option-without-effect",
                    f"--classifier-weight: there is no classifier; add --conditioning {CLASSIFYING[0]}",
                )
        elif method.classifier_weight == 0:
            raise UserError(
                "option-conflict",
                "--classifier-weight 0: the networks would not learn the labels; use a weight above 0",
            )
        elif method.mismatch != "none" and method.mismatch_weight:
            raise UserError(
                "option-conflict",
                f"--mismatch {method.mismatch}: with --conditioning {self.network.conditioning} the logits do not "
                "depend on the label, so wrong labels have no effect; use --mismatch none",
            )

    def _check_label_loss(self) -> None:
        conditioning = self.network.resolved_conditioning
        if self.method.label_loss and conditioning not in EMBEDDING_ENTRIES:
            raise UserError(
                "option-conflict",
                f"--label-loss: --conditioning {conditioning} has no vector for each value of a label, which the loss "
                f"compares; use --conditioning {EMBEDDING_ENTRIES[0]}, or --label-loss 0",
            )

    def _check_pseudo_labels(self) -> None:
        if self.method.pseudo_labels and not self.method.label_loss and self.network.conditioning not in CLASSIFYING:
            raise UserError(
                "option-without-effect",
                "--pseudo-labels: the discriminator does not learn to recognize labels; add --label-loss 0.5 (with "
                f"--conditioning {EMBEDDING_ENTRIES[0]}), or --conditioning {CLASSIFYING[0]}",
            )

    def _check_joint(self) -> None:
        if self.method.updates == "joint" and (reason := _conflict_with_joint(cli.flatten(self))):
            raise UserError("option-conflict", f"--updates joint: {reason}; use --updates alternating")

    @classmethod
    def from_options(cls, **options: Any) -> Config:
        """Return the configuration with these options, by their flat names, and the defaults of all others."""
        return cli.make(cls, options)

    def replace(self, **options: Any) -> Config:
        """Return a copy with these options, by their flat names, changed."""
        return cli.make(Config, cli.flatten(self) | options)

    def check_division(self, processes: int) -> None:
        """Raise UserError if ``processes`` processes cannot divide the batch into equal micro-batches."""
        check_division(self.data.batch, processes, self.machine.accumulate)

    @property
    def run_directory(self) -> Path:
        """The run directory, with its default."""
        return self.run or Path("runs") / (self.preset or "run")

    def to_dict(self) -> dict[str, Any]:
        """Return all options by their flat names as plain values, as saved in config.yaml and in checkpoints."""
        values = {name: _plain(value) for name, value in cli.flatten(self).items()}
        return values | {"shards": values["shards"] and _without_secrets(values["shards"])}


def load(argv: Sequence[str]) -> Config:
    """Return the configuration of a command line: preset < --config FILE.yaml < flags.

    With a classifier, --mismatch defaults to none, whatever the preset says. In a W&B sweep, --run
    defaults to a directory per run.

    Raises:
        UserError: an option is unknown, has an invalid value or contradicts another one.
    """
    flags = cli.raw_values(Config, argv, also=("config",))
    file = flags.pop("config", None)
    return resolve(flags, file=file)


def resolve(options: Mapping[str, Any], file: str | Path | None = None) -> Config:
    """Return the configuration of options by their flat names, as words or as Python values: preset < file < options.

    Raises:
        UserError: an option is unknown, has an invalid value or contradicts another one.
    """
    chosen = _coerce_all(_read_yaml(Path(file)), str(file)) if file else {}
    asked = _coerce_all(options, "")
    if asked.get("minutes") is not None and asked.get("total_images") is not None:
        raise UserError("option-conflict", "--minutes and --total-images both say how long to train; omit one of them")
    chosen = _with_length_of(asked, chosen) | asked
    preset = cli.coerce(Config, "preset", chosen.get("preset"))
    described = PRESETS[preset] if preset else {}
    base = _coerce_all({name: value for name, value in described.items() if name != "doc"}, f"preset {preset}")
    base = _without_excluded(base, chosen)
    if (directory := _sweep_run_directory()) is not None:
        base["run"] = directory
    values = _with_length_of(chosen, base) | chosen
    if values.get("minutes") is not None:
        values["fit"] = _fit_of_the_rest(values.get("fit", ScheduleConfig.fit), chosen)
    return cli.make(Config, values)


def _fit_of_the_rest(fit: str, chosen: Mapping[str, Any]) -> str:
    """Return --fit without the options that are chosen already; the weights of --init-from have their channels."""
    given = chosen.keys() | ({"channels"} if chosen.get("init_from") is not None else set())
    rest = tuple(name for name in FITS[fit] if name not in given)
    return next(name for name, options in FITS.items() if options == rest)


def _without_excluded(base: dict[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's options without those that the chosen options exclude: a choice needs no second one."""
    asked = cli.flatten(Config()) | base | dict(chosen)
    network = NetworkConfig(family=asked["family"], conditioning=asked["conditioning"])
    excluded: set[str] = set()
    if asked["family"] == "article":
        excluded |= {"channels", "blocks", "image_kernel", "modulation", "level_means"}
    if asked["conditioning"] in CLASSIFYING:
        base = base | {"mismatch": "none"}
    if network.resolved_conditioning not in EMBEDDING_ENTRIES:
        excluded |= {"label_loss"}
    if _conflict_with_joint(asked):
        excluded |= {"updates"}
    if asked["augment"] == "none":
        excluded |= {"flip"}
    if asked["augment"] != base.get("augment"):  # a schedule of another augmentation
        excluded |= {"augment_p", "augment_p_end"}
    excluded |= {end for start, end in _SCHEDULED.items() if start in chosen}  # a schedule from another start
    if chosen.get("cooldown"):
        excluded |= {"decay", "decay_to"}
    elif asked["decay"] == "none":
        excluded |= {"decay_to"}
    else:
        excluded |= {"cooldown", "cooldown_to"}
    if not asked["cooldown"] and asked["decay_images"] is None and asked["minutes"] is None:
        excluded |= set(_SCHEDULED.values())  # nothing says where they end
    return {name: value for name, value in base.items() if name not in excluded}


def _conflict_with_joint(options: Mapping[str, Any]) -> str | None:
    """Return why these options exclude --updates joint, which gives G what D's pass computes; None if they do not."""
    for name, excludes in (
        ("loss", options["loss"] not in JOINT_LOSSES),
        ("conditioning", options["conditioning"] in CLASSIFYING),
        ("interpolate", options["interpolate"] > 0),
    ):
        if excludes:
            words = f"{cli.flag(name)} {options[name]}"
            return f"with {words} the generator's gradient does not follow from the discriminator's"
    if options["d_steps"] > 1:
        return f"with --d-steps {options['d_steps']} the generator is not updated as often as the discriminator"
    return None


def _with_length_of(above: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without a length of the run in images or minutes that those ``above`` give in the other."""
    replaced: tuple[str, ...] = ()
    if above.get("minutes") is not None:
        replaced = ("total_images", "decay_images")
    elif "total_images" in above:
        replaced = ("minutes", "fit")
    return {name: value for name, value in options.items() if name not in replaced}


def _sweep_run_directory() -> Path | None:
    """Return the directory of this run of a W&B sweep, or None outside of a sweep.

    `wandb agent` passes both ids in the environment. A sweep's command line cannot contain the run's id: the agent
    expands ${envvar:WANDB_RUN_ID} before it sets it, so a run would get its predecessor's. A run that the agent starts
    again has the same id, and so it resumes.

    Raises:
        UserError: an id is not a valid directory name.
    """
    ids = [os.environ.get(name, "") for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID")]
    if not all(ids):
        return None
    if not all(re.fullmatch(r"[\w-][\w.-]*", name) for name in ids):
        raise UserError(
            "sweep-id",
            f"WANDB_SWEEP_ID {ids[0]!r} and WANDB_RUN_ID {ids[1]!r} are not valid directory names; set --run",
        )
    return Path("runs", f"sweep-{ids[0]}", ids[1])


def usage(command: str) -> str:
    """Return the help text, with a list of the presets."""
    width = max(map(len, PRESETS)) + 2
    presets = "\n".join(f"  {name:<{width}}{values['doc']}" for name, values in PRESETS.items())
    text = cli.usage(
        Config, command, {"config": "YAML file of options; it overrides the preset and is overridden by flags"}
    )
    return f"{text}\n\npresets:\n{presets}"


def compare(saved: Mapping[str, Any], asked: Config) -> list[str]:
    """Return one line per option that differs from a run's saved ones although it must not change on resume."""
    now = asked.to_dict()
    # A run that is older than an option had the option's default, or what all runs had.
    before = Config().to_dict() | {"order": "full", "penalty_precision": "full"} | dict(saved)
    return [
        f"  {name.replace('_', '-')}: {before[name]} in the run, {now[name]} now"
        for name, field in cli.interface(Config).fields.items()
        if not field.metadata["may_change"] and before[name] != now[name]
    ]


def _coerce_all(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = list(cli.interface(Config).fields)
    result = {}
    for written, value in values.items():
        name = str(written).replace("-", "_")
        if name not in known:
            raise UserError("unknown-option", cli.unknown_option(name, known, where))
        result[name] = cli.coerce(Config, name, value, where)
    return result


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = text_files.read_yaml(path)
    except OSError as error:
        raise UserError("file-unreadable", f"--config {path}: {error.strerror or error}") from None
    except text_files.UnreadableText as error:
        raise UserError("invalid-yaml", f"--config {path} {error}") from None
    if not isinstance(values or {}, dict):
        raise UserError("invalid-yaml", f"--config {path}: expected lines like `batch: 64`")
    return values or {}


def _without_secrets(where: str) -> str:
    """Return a URL without its password and its query, which may be a signature; a directory stays as it is."""
    if "://" not in where:
        return where
    parts = urlsplit(where)
    _, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, ("***@" if at else "") + host, parts.path, "", ""))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
