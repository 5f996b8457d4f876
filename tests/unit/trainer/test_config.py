"""Options: preset < YAML < flags, checked before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.core.errors import UserError
from trainer import config
from trainer.config import Config
from trainer.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_parses(preset: str) -> None:
    made = config.load(["--preset", preset])
    assert made.preset == preset
    assert made.run_directory == Path("runs") / preset
    assert config.from_dict(made.to_dict(), "config.yaml") == made


def test_trap_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("preset: smoke\nbatch: 8\nlr-g: 1e-4\nbetas: [0.1, 0.9]\nlog_with: [tensorboard]\n")
    made = config.load(["--config", str(file), "--batch", "4"])
    assert made.batch == 4
    assert made.lr_g == 1e-4, "PyYAML reads 1e-4 as a string"
    assert made.betas == (0.1, 0.9)
    assert made.log_with == ("tensorboard",)
    assert made.noise_size == PRESETS["smoke"]["noise_size"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bach: 3", "unknown option --bach"),
        ("batch: many", "--batch"),
        ("batch: yes", "not a whole number"),
        ("- batch", "expected lines like"),
        ("batch: [", "no readable YAML"),
        ("wandb_group: 2024-31-12", "no readable YAML: month must be in 1..12"),
        ("!!python/object/apply:os.system ['true']", "no readable YAML"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        config.load(["--config", str(file)])
    assert expected in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--prest", "smoke"], "did you mean --preset?"),
        (["--preset", "face32"], "did you mean 'faces32'?"),
        (["--gamma", "0"], "--gamma 0: the relativistic loss diverges"),
        (["--family", "article", "--channels", "3,4"], "fixed channels"),
        (["--family", "article", "--blocks", "2"], "no residual blocks"),
        (["--family", "residual", "--expansion", "4"], "--expansion: only r3gan has grouped convolutions"),
        (["--family", "article", "--group-width", "8"], "--group-width: only r3gan has grouped convolutions"),
        (["--family", "r3gna"], "did you mean 'r3gan'?"),
        (["--conditioning", "plan"], "did you mean 'plane'?"),
        (["--conditioning", "classifier", "--mismatch", "real"], "--mismatch real: with --conditioning classifier"),
        (["--classifier-weight", "2"], "--classifier-weight: there is no classifier; add --conditioning classifier"),
        (["--conditioning", "classifier", "--classifier-weight", "-1"], "--classifier-weight: -1.0 is below 0"),
        (["--conditioning", "classifier", "--classifier-weight", "0"], "nothing would teach labels"),
        (["--blocks", "0"], "--blocks: 0 is below 1"),
        (["--dtype", "float64", "--mixed-precision", "bf16"], "no mixed precision"),
        (["--betas", "0,1"], "--betas: 1.0 is above"),
        (["--total-images", "0"], "--total-images: 0 is below 1"),
        (["--seed", "-1"], "--seed: -1 is below 0"),
        (["--augment", "aba"], "--augment: 'aba' is not one of none, diff, ada; did you mean 'ada'?"),
        (["--augment", "diff", "--augment-kinds", ""], "--augment-kinds names no change for --augment diff"),
        (["--augment", "diff", "--augment-kinds", "color,cutoff"], "did you mean 'cutout'?"),
        (["--flip"], "--flip: nothing is mirrored without augmentation"),
        (["--augment", "ada", "--ada-speed", "0"], "--ada-speed: 0.0 must be above 0"),
        (["--augment", "ada", "--ada-target", "1.5"], "--ada-target: 1.5 is above 1"),
        (["--decay", "cosine"], "--decay needs --decay-images"),
        (["--gamma-end", "0.1"], "--gamma-end needs --decay-images"),
        (["--beta2-end", "0.99"], "--beta2-end needs --decay-images"),
        (["--ema-half-life-end", "9"], "--ema-half-life-end needs --decay-images"),
        (["--augment", "diff", "--augment-p-end", "0"], "--augment-p-end needs --decay-images"),
        (["--augment", "ada", "--augment-p", "0.5"], "--augment-p: ada finds its own probability"),
        (["--augment-p-end", "0.5", "--decay-images", "9"], "--augment-p-end: nothing is changed without augmentation"),
        (["--augment", "diff", "--augment-p", "1.1"], "--augment-p: 1.1 is above 1"),
        (["--d-steps", "0"], "--d-steps: 0 is below 1"),
        (["--decay-images", "100"], "--decay-images: nothing changes over them"),
        (["--decay-to", "0.1"], "--decay-to: the learning rates do not fall"),
        (["--decay", "linear", "--decay-images", "9", "--warmup-images", "9"], "is not after --warmup-images 9"),
        (["--gamma-end", "0", "--decay-images", "100"], "--gamma-end 0: the relativistic loss diverges"),
    ],
)
def test_a_bad_combination_is_one_sentence(words: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(words)
    assert expected in str(caught.value)


def test_a_config_made_in_python_is_checked_too() -> None:
    with pytest.raises(UserError, match="--batch"):
        Config(batch=0)
    with pytest.raises(UserError, match="use --mismatch none"):
        Config(conditioning="classifier")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_classifier_has_no_wrong_labels_whatever_the_preset_says(preset: str, tmp_path: Path) -> None:
    made = config.load(["--preset", preset, "--conditioning", "classifier"])
    assert made.mismatch == "none"
    file = tmp_path / "classes.yaml"
    file.write_text(f"preset: {preset}\nconditioning: classifier\n")
    again = config.load(["--config", str(file)])
    assert again == made
    assert config.compare(made.to_dict(), again) == []
    assert config.load(["--preset", preset]).mismatch == PRESETS[preset].get("mismatch", "real")


def test_the_options_that_stay() -> None:
    """Scripts of other people hold these names."""
    promised = (
        "shards preset run total_images batch seed workers mixed_precision threads checkpoint_every grid_every "
        "log_every log_with dry_run accumulate wandb_project wandb_entity wandb_group wandb_mode init_from "
        "augment augment_kinds flip ada_target ada_speed "
        "family channels blocks expansion group_width conditioning spectral_norm "
        "warmup_images decay decay_to decay_images gamma_end beta2_end d_steps interpolate "
        "ema_half_life_end augment_p augment_p_end classifier_weight"
    )
    shown = config.usage("train")
    for name in promised.split():
        assert f"--{name.replace('_', '-')}" in shown
        assert hasattr(Config, name)
    assert all(f"  {preset}" in shown for preset in PRESETS)


def test_trap_whole_numbers_among_betas_are_floats(tmp_path: Path) -> None:
    """torch's Adam refuses (0, 0.9), whose first is an integer."""
    file = tmp_path / "mine.yaml"
    file.write_text("betas: [0, 0.9]\n")
    for words in (["--betas", "0,0.9"], ["--config", str(file)]):
        betas = config.load(words).betas
        assert betas == (0.0, 0.9) and all(isinstance(beta, float) for beta in betas)


def test_dashes_and_underscores_are_alike() -> None:
    assert config.load(["--total_images", "5"]) == config.load(["--total-images=5"])


def test_what_may_change_on_resume() -> None:
    old = config.load(["--preset", "smoke"]).to_dict()
    assert config.compare(old, config.load(["--preset", "smoke", "--total-images", "9", "--workers", "3"])) == []
    differences = config.compare(old, config.load(["--preset", "smoke", "--batch", "2", "--loss", "hinge"]))
    assert [line.split(":")[0].strip() for line in differences] == ["batch", "loss"]


def test_the_order_of_older_runs_was_full() -> None:
    """A run that is older than the option goes on; another order, window or quota is another run."""
    saved = {name: value for name, value in Config().to_dict().items() if name not in ("order", "window", "balance")}
    assert config.compare(saved, Config(order="full")) == []
    assert config.compare(saved, Config(order="windowed")) == ["  order: full there, windowed now"]
    assert config.compare(saved, Config(order="full", unlabelled_share=0.5)) == [
        "  unlabelled-share: None there, 0.5 now"
    ]
    assert config.compare(saved, Config(order="full", cache_limit=1, damaged_limit=0.5, shards="s3://there/data")) == []


def test_runs_older_than_augmentation_go_on_without() -> None:
    saved = {name: v for name, v in Config().to_dict().items() if not name.startswith(("augment", "flip", "ada_"))}
    assert config.compare(saved | {"order": "auto"}, Config()) == []
    changed = config.compare(saved | {"order": "auto"}, Config(augment="diff", augment_kinds=("color",)))
    assert changed == [
        "  augment: none there, diff now",
        "  augment-kinds: ['color', 'translation', 'cutout'] there, ['color'] now",
    ]


def test_a_share_without_labels_is_below_one() -> None:
    assert config.load(["--unlabelled-share", "0.25"]).sampling.unlabelled_share == 0.25
    with pytest.raises(UserError, match="--unlabelled-share 1 leaves nothing to learn labels from"):
        config.load(["--unlabelled-share", "1"])


def test_secrets_of_a_url_are_not_kept() -> None:
    kept = Config(shards="https://me:secret@there:8/data?X-Amz-Signature=secret").to_dict()["shards"]
    assert kept == "https://***@there:8/data"
    assert Config(shards="data/with@sign").to_dict()["shards"] == "data/with@sign"
