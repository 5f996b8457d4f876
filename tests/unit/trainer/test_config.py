"""Options: preset < YAML < flags, in sections, validated before anything runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shards.core import cli
from support.errors import raises
from trainer import config
from trainer.config import Config
from trainer.presets import PRESETS

# All options of the first release with config.yaml, in its order, with their defaults. An option may be added; none of
# these may be renamed, moved or given another default, since saved runs and other people's scripts depend on them.
SAVED: dict[str, Any] = {
    "shards": None,
    "run": None,
    "preset": None,
    "init_from": None,
    "freeze_d": 0,
    "cache": None,
    "cache_limit": 50,
    "decoded_cache": "auto",
    "order": "auto",
    "window": 16,
    "unlabelled_share": None,
    "balance": None,
    "skip_limit": 20,
    "damaged_limit": 0.001,
    "total_images": 200000,
    "minutes": None,
    "fit": "size",
    "batch": 64,
    "accumulate": 1,
    "log_every": 2000,
    "grid_every": 20000,
    "checkpoint_every": 20000,
    "keep": 3,
    "evaluate_every": None,
    "best_by": "fidelity",
    "seed": 0,
    "family": "r3gan",
    "noise_size": 64,
    "label_size": 64,
    "channels": [],
    "blocks": None,
    "expansion": 2,
    "group_width": 16,
    "resize": "average",
    "image_kernel": 1,
    "modulation": False,
    "level_means": False,
    "conditioning": "auto",
    "classifier_weight": 1.0,
    "spectral_norm": False,
    "label_loss": 0.0,
    "pseudo_labels": 0.0,
    "loss": "relativistic",
    "mismatch": "real",
    "wrong": "sample",
    "mismatch_weight": 1.0,
    "interpolate": 0.0,
    "mode_seeking": 0.0,
    "gamma": 1.0,
    "d_steps": 1,
    "updates": "alternating",
    "penalty_every": 16,
    "augment": "none",
    "augment_kinds": ["color", "translation", "cutout"],
    "augment_p": 1.0,
    "augment_p_end": None,
    "flip": False,
    "ada_target": 0.6,
    "ada_speed": 500000,
    "lr_g": 0.001,
    "lr_d": 0.001,
    "betas": [0.0, 0.95],
    "warmup_images": 0,
    "decay": "none",
    "decay_to": 0.0,
    "decay_images": None,
    "cooldown": 0.0,
    "cooldown_to": 0.05,
    "gamma_end": None,
    "mode_seeking_end": None,
    "beta2_end": None,
    "ema_half_life": 20000,
    "ema_half_life_end": None,
    "ema_ramp": 0.1,
    "ema_snapshots": 0,
    "mixed_precision": "auto",
    "penalty_precision": "auto",
    "deterministic": False,
    "compile": False,
    "dtype": "float32",
    "device": "auto",
    "workers": None,
    "threads": 0,
    "timeout": 300,
    "log_with": ["wandb"],
    "wandb_project": None,
    "wandb_entity": None,
    "wandb_group": None,
    "wandb_mode": None,
    "wandb_artifacts": "generator",
    "dry_run": False,
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset: str, tmp_path: Path) -> None:
    made = config.load(["--preset", preset])
    assert made.preset == preset
    assert made.run_directory == Path("runs") / preset
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(made.to_dict()))
    assert config.load(["--config", str(file)]) == made, "a saved configuration is the same configuration"


def test_saved_options_keep_names_order_and_defaults() -> None:
    assert list(json.loads(json.dumps(Config().to_dict())).items()) == list(SAVED.items())


def test_help_lists_all_options_in_the_saved_order() -> None:
    shown = re.findall(r"(?m)^  --([a-z0-9-]+)", config.usage("train"))
    assert shown == ["config", *(name.replace("_", "-") for name in SAVED)]


def test_sections_share_the_options_among_them() -> None:
    made = Config.from_options(batch=8, lr_g=0.5, evaluate_every=3, seed=4)
    assert (made.data.batch, made.optim.lr_g, made.evaluation.evaluate_every, made.seed) == (8, 0.5, 3, 4)
    changed = made.replace(order="full", seed=5)
    assert (changed.data.order, changed.data.batch, changed.seed) == ("full", 8, 5)
    sections = cli.interface(Config).sections
    assert all(len(inner.fields) >= 4 for inner in sections.values())


def test_trap_flags_override_the_file_and_the_file_overrides_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("preset: smoke\nbatch: 8\nlr-g: 1e-4\nbetas: [0.1, 0.9]\nlog_with: [tensorboard]\n")
    made = config.load(["--config", str(file), "--batch", "4"])
    assert made.data.batch == 4
    assert made.optim.lr_g == 1e-4, "PyYAML reads 1e-4 as a string"
    assert made.optim.betas == (0.1, 0.9)
    assert made.tracking.log_with == ("tensorboard",)
    assert made.network.noise_size == PRESETS["smoke"]["noise_size"]


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("bach: 3", "unknown-option", "--bach"),
        ("doc: mine", "unknown-option", "--doc"),
        ("batch: many", "invalid-value", "--batch"),
        ("decoded_cache: off", "invalid-value", "quotes"),
        ("batch: yes", "invalid-value", "--batch"),
        ("- batch", "invalid-yaml", "`batch: 64`"),
        ("batch: [", "invalid-yaml", ""),
        ("wandb_group: 2024-31-12", "invalid-yaml", "month must be in 1..12"),
        ("!!python/object/apply:os.system ['true']", "invalid-yaml", ""),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, text: str, code: str, named: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with raises(code, named, file) as caught:
        config.load(["--config", str(file)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ("--prest smoke", "unknown-option", ["--prest", "--preset"]),
        ("--preset face32", "invalid-value", ["--preset", "'faces32'"]),
        ("--gamma 0", "option-conflict", ["--gamma 0"]),
        ("--family article --channels 3,4", "option-without-effect", ["--channels", "--family residual"]),
        ("--family article --blocks 2", "option-without-effect", ["--blocks", "--family residual"]),
        ("--family article --modulation", "option-without-effect", ["--modulation", "--family residual"]),
        ("--family article --image-kernel 3", "option-without-effect", ["--image-kernel", "--family residual"]),
        ("--family article --level-means", "option-without-effect", ["--level-means", "--family residual"]),
        ("--image-kernel 2", "invalid-value", ["--image-kernel 2", "odd"]),
        ("--family r3gan --resize filter", "option-without-effect", ["--resize filter", "--family residual"]),
        ("--family residual --expansion 4", "option-without-effect", ["--expansion", "--family r3gan"]),
        ("--family article --group-width 8", "option-without-effect", ["--group-width", "--family r3gan"]),
        ("--family r3gna", "invalid-value", ["--family", "'r3gan'"]),
        ("--conditioning plan", "invalid-value", ["--conditioning", "'plane'"]),
        ("--conditioning classifier --mismatch real", "option-conflict", ["--mismatch real", "--mismatch none"]),
        ("--classifier-weight 2", "option-without-effect", ["--classifier-weight", "--conditioning classifier"]),
        ("--conditioning classifier --classifier-weight -1", "invalid-value", ["--classifier-weight", "-1.0"]),
        ("--conditioning classifier --classifier-weight 0", "option-conflict", ["--classifier-weight 0"]),
        ("--label-loss -1", "invalid-value", ["--label-loss", "-1.0"]),
        ("--label-loss 1 --family article", "option-conflict", ["--label-loss", "plane", "--conditioning projection"]),
        ("--label-loss 1 --conditioning concatenation", "option-conflict", ["--label-loss", "concatenation"]),
        ("--label-loss 1 --conditioning classifier", "option-conflict", ["--label-loss", "classifier"]),
        ("--blocks 0", "invalid-value", ["--blocks", "0", "1"]),
        ("--dtype float64 --mixed-precision bf16", "option-conflict", ["--dtype float64", "--mixed-precision"]),
        ("--betas 0,1", "invalid-value", ["--betas", "1.0"]),
        ("--total-images 0", "invalid-value", ["--total-images", "0", "1"]),
        ("--seed -1", "invalid-value", ["--seed", "-1", "0"]),
        ("--augment aba", "invalid-value", ["--augment", "none, diff, ada", "'ada'"]),
        ("--augment diff --augment-kinds=", "option-conflict", ["--augment-kinds", "--augment diff"]),
        ("--augment diff --augment-kinds color,cutoff", "invalid-value", ["'cutoff'", "'cutout'"]),
        ("--flip", "option-without-effect", ["--flip", "--augment diff"]),
        ("--augment ada --ada-speed 0", "invalid-value", ["--ada-speed", "0"]),
        ("--augment ada --ada-target 1.5", "invalid-value", ["--ada-target", "1.5", "1"]),
        ("--decay cosine", "option-missing", ["--decay", "--decay-images"]),
        ("--mode-seeking-end 0 --cooldown 0.4", "option-without-effect", ["--mode-seeking-end", "--mode-seeking"]),
        ("--gamma-end 0.1", "option-missing", ["--gamma-end", "--decay-images", "--cooldown"]),
        ("--beta2-end 0.99", "option-missing", ["--beta2-end", "--decay-images"]),
        ("--ema-half-life-end 9", "option-missing", ["--ema-half-life-end", "--decay-images"]),
        ("--augment diff --augment-p-end 0", "option-missing", ["--augment-p-end", "--decay-images"]),
        ("--augment ada --augment-p 0.5", "option-without-effect", ["--augment-p", "--augment diff or ada-scheduled"]),
        ("--augment-p-end 0.5 --decay-images 9", "option-without-effect", ["--augment-p-end", "--augment diff"]),
        ("--augment diff --augment-p 1.1", "invalid-value", ["--augment-p", "1.1", "1"]),
        ("--d-steps 0", "invalid-value", ["--d-steps", "0", "1"]),
        ("--decay-images 100", "option-without-effect", ["--decay-images", "--gamma-end"]),
        ("--decay-to 0.1", "option-without-effect", ["--decay-to", "--decay cosine"]),
        ("--decay-to 0.1 --minutes 5", "option-without-effect", ["--decay-to", "--decay cosine"]),
        (
            "--decay linear --decay-images 9 --warmup-images 9",
            "option-conflict",
            ["--decay-images 9", "--warmup-images 9"],
        ),
        ("--cooldown 1.5", "invalid-value", ["--cooldown", "1.5", "1"]),
        ("--cooldown-to 0.1", "option-without-effect", ["--cooldown-to", "--cooldown 0.33"]),
        ("--cooldown 0.5 --decay linear --decay-images 9", "option-conflict", ["--cooldown", "--decay linear"]),
        ("--cooldown 0.5 --total-images 100 --warmup-images 60", "option-conflict", ["--warmup-images 60", "50"]),
        ("--updates joint --loss hinge", "option-conflict", ["--updates joint", "--loss hinge"]),
        ("--updates joint --conditioning classifier --mismatch none", "option-conflict", ["--conditioning classifier"]),
        ("--updates joint --interpolate 0.5", "option-conflict", ["--updates joint", "--interpolate 0.5"]),
        ("--updates joint --d-steps 2", "option-conflict", ["--updates joint", "--d-steps 2"]),
        ("--gamma-end 0 --decay-images 100", "option-conflict", ["--gamma-end 0"]),
        ("--unlabelled-share 1", "option-conflict", ["--unlabelled-share 1"]),
    ],
)
def test_invalid_options_are_named(words: str, code: str, named: list[str]) -> None:
    with raises(code, *named):
        config.load(words.split())


def test_a_config_made_in_python_is_validated_too() -> None:
    with raises("invalid-value", "--batch"):
        Config.from_options(batch=0)
    with raises("option-conflict", "--mismatch none"):
        Config.from_options(conditioning="classifier")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_classifier_trains_without_wrong_labels_whatever_the_preset(preset: str, tmp_path: Path) -> None:
    made = config.load(["--preset", preset, "--conditioning", "classifier"])
    assert made.method.mismatch == "none"
    file = tmp_path / "classes.yaml"
    file.write_text(f"preset: {preset}\nconditioning: classifier\n")
    again = config.load(["--config", str(file)])
    assert again == made
    assert config.compare(made.to_dict(), again) == []
    assert config.load(["--preset", preset]).method.mismatch == PRESETS[preset].get("mismatch", "real")


def test_help_lists_the_presets() -> None:
    shown = config.usage("train")
    assert all(f"  {preset}" in shown for preset in PRESETS)


def test_trap_whole_numbers_among_betas_are_floats(tmp_path: Path) -> None:
    """torch's Adam refuses (0, 0.9), whose first value is an integer."""
    file = tmp_path / "mine.yaml"
    file.write_text("betas: [0, 0.9]\n")
    for words in (["--betas", "0,0.9"], ["--config", str(file)]):
        betas = config.load(words).optim.betas
        assert betas == (0.0, 0.9) and all(isinstance(beta, float) for beta in betas)


def test_dashes_and_underscores_are_equivalent() -> None:
    assert config.load(["--total_images", "5"]) == config.load(["--total-images=5"])


def test_options_that_may_change_on_resume() -> None:
    changeable = {name for name, field in cli.interface(Config).fields.items() if field.metadata["may_change"]}
    assert changeable == set(
        "total_images minutes fit log_every grid_every checkpoint_every keep workers threads device accumulate timeout "
        "log_with wandb_project wandb_entity wandb_group wandb_mode wandb_artifacts dry_run init_from shards run "
        "preset cache cache_limit decoded_cache damaged_limit skip_limit compile deterministic evaluate_every "
        "best_by".split()
    )
    old = config.load(["--preset", "smoke"]).to_dict()
    assert config.compare(old, config.load(["--preset", "smoke", "--total-images", "9", "--workers", "3"])) == []
    differences = config.compare(old, config.load(["--preset", "smoke", "--batch", "2", "--loss", "hinge"]))
    assert [line.split(":")[0].strip() for line in differences] == ["batch", "loss"]


def test_the_order_of_older_runs_was_full() -> None:
    """A run that is older than the option resumes; with another order, window or fraction it is another run."""
    saved = {name: value for name, value in Config().to_dict().items() if name not in ("order", "window", "balance")}

    def compared(**options: Any) -> list[str]:
        return config.compare(saved, Config.from_options(**options))

    assert compared(order="full") == []
    assert compared(order="windowed") == ["  order: full in the run, windowed now"]
    assert compared(order="full", unlabelled_share=0.5) == ["  unlabelled-share: None in the run, 0.5 now"]
    assert compared(order="full", cache_limit=1, damaged_limit=0.5, shards="s3://there/data") == []


def test_penalties_of_older_runs_had_full_precision() -> None:
    saved = {name: value for name, value in Config().to_dict().items() if name != "penalty_precision"}
    saved |= {"order": "auto"}
    assert config.compare(saved, Config.from_options(penalty_precision="full")) == []
    assert config.compare(saved, Config()) == ["  penalty-precision: full in the run, auto now"]


def test_runs_older_than_augmentation_resume_without_it() -> None:
    saved = {name: v for name, v in Config().to_dict().items() if not name.startswith(("augment", "flip", "ada_"))}
    assert config.compare(saved | {"order": "auto"}, Config()) == []
    now = Config.from_options(augment="diff", augment_kinds=("color",))
    assert config.compare(saved | {"order": "auto"}, now) == [
        "  augment: none in the run, diff now",
        "  augment-kinds: ['color', 'translation', 'cutout'] in the run, ['color'] now",
    ]


def test_secrets_of_a_url_are_not_saved() -> None:
    def saved(shards: str) -> str:
        return Config.from_options(shards=shards).to_dict()["shards"]

    assert saved("https://me:secret@there:8/data?X-Amz-Signature=secret") == "https://***@there:8/data"
    assert saved("data/with@sign") == "data/with@sign"


@pytest.mark.parametrize(
    ("choice", "left_out"),
    [
        ("--conditioning classifier", {"label_loss", "updates"}),
        ("--conditioning concatenation", {"label_loss"}),
        ("--family article", {"label_loss", "blocks", "image_kernel", "modulation", "level_means"}),
        ("--loss hinge", {"updates"}),
        ("--d-steps 2", {"updates"}),
        ("--interpolate 0.5", {"updates"}),
        ("--decay cosine --decay-images 1000", {"cooldown"}),
        ("--family residual", set()),
    ],
)
def test_a_choice_leaves_out_what_it_excludes_of_a_preset(choice: str, left_out: set[str]) -> None:
    made, default = config.load(["--preset", "faces32", *choice.split()]).to_dict(), config.Config().to_dict()
    for name in ("label_loss", "updates", "blocks", "image_kernel", "modulation", "level_means", "cooldown"):
        assert made[name] == (default if name in left_out else PRESETS["faces32"])[name], name


def test_two_contradicting_choices_are_an_error_with_a_preset_too() -> None:
    with raises("option-conflict", "--updates joint", "--loss hinge"):
        config.load(["--preset", "faces32", "--loss", "hinge", "--updates", "joint"])
