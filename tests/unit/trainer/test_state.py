"""The training state: what happens in which step, schedules, and what checkpoints hold."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from support.training import make_state
from trainer import config
from trainer.run import checkpoint
from trainer.schedules.build import build_schedules


def test_penalty_steps_are_a_function_of_images_seen(tmp_path: Path) -> None:
    """A resumed run has its penalties in the same steps."""
    state, stream = make_state(tmp_path, "--penalty-every", "3")
    penalised = ["loss/penalty" in state.step(stream[number]).metrics for number in range(7)]
    assert penalised == [True, False, False, True, False, False, True]
    state.images_seen = 9 * 8
    assert "loss/penalty" in state.step(stream[9]).metrics
    assert state.images_seen == 10 * 8


def test_d_steps_updates_g_in_every_third_step(tmp_path: Path) -> None:
    """Each update of D has its own batch, and penalties count updates of D."""
    state, stream = make_state(tmp_path, "--d-steps", "3", "--penalty-every", "2")
    updates_g, penalised, moved = [], [], []
    for number in range(7):
        before = [[p.clone() for p in player.module.parameters()] for player in (state.d, state.g)]
        scalars = state.step(stream[number]).metrics
        updates_g.append("loss/g" in scalars and "grad/g" in scalars)
        penalised.append("loss/penalty" in scalars)
        after = [list(player.module.parameters()) for player in (state.d, state.g)]
        moved.append([any(map(differ, a, b)) for a, b in zip(before, after, strict=True)])
    assert updates_g == [g for _, g in moved] == [False, False, True, False, False, True, False]
    assert penalised == [True, False, True, False, True, False, True]
    assert all(d for d, _ in moved)
    assert state.images_seen == 7 * 8
    state.images_seen = 11 * 8  # as in a resumed run
    assert "loss/g" in state.step(stream[11]).metrics


def differ(a: torch.Tensor, b: torch.Tensor) -> bool:
    return not torch.equal(a, b)


def test_trap_the_loss_scaler_is_saved(tmp_path: Path) -> None:
    """It takes fp16 hundreds of steps to find its scale: a resumed run starts with the saved one."""
    state, stream = make_state(tmp_path)
    state.env.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7, growth_interval=3, enabled=True)
    state.step(stream[0])  # two updates, of D and of G
    saved = checkpoint.read(checkpoint.save(tmp_path, state.values(), state.tensors(), keep=1))
    other, _ = make_state(tmp_path / "other")
    other.env.scaler = torch.amp.GradScaler("cpu", growth_interval=3, enabled=True)
    other.load(saved)
    for resumed in (state, other):
        assert resumed.env.scaler.get_scale() == 2.0**7
        resumed.step(stream[1])
        assert resumed.env.scaler.get_scale() == 2.0**8, "the count of finite updates is saved too"


def test_there_is_no_penalty_without_gamma(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, "--loss", "hinge", "--gamma", "0")
    assert "loss/penalty" not in state.step(stream[0]).metrics


def test_the_averaged_generator_starts_equal_and_follows(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path)
    pairs = list(zip(state.ema.module.parameters(), state.g.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    for number in range(4):
        state.step(stream[number])
    moved = [(a - b).abs().max().item() for a, b in pairs]
    assert max(moved) > 0, "the average is not the newest weights"
    assert max(moved) < 0.1


@pytest.mark.parametrize("words", ["--augment diff --flip", "--augment diff --augment-kinds cutout", "--augment ada"])
def test_augmented_steps_are_finite_and_differ(tmp_path: Path, words: str) -> None:
    """With penalties, which need second derivatives of everything between D's inputs and its logits."""
    states = [
        make_state(tmp_path / name, "--penalty-every", "2", *asked) for name, asked in (("a", words.split()), ("b", []))
    ]
    (state, stream), (plain, _) = states
    if state.adaptive is not None:
        state.adaptive.p += 0.9
    for number in range(2):
        values = {name: value.item() for name, value in state.step(stream[number]).metrics.items()}
        others = plain.step(stream[number]).metrics
        assert all(math.isfinite(value) for value in values.values())
        assert -1 <= values["augment/sign"] <= 1
        assert values["loss/d"] != others["loss/d"].item()
        assert ("augment/p" in values) == ("ada" in words) and "augment/p" not in others


def test_ada_is_updated_every_fourth_step_and_saved(tmp_path: Path) -> None:
    """Also in a resumed run."""
    state, stream = make_state(tmp_path, "--augment", "ada", "--ada-speed", "64", "--ada-target", "-0.9")
    found = [state.step(stream[number]).metrics["augment/p"].item() for number in range(6)]
    assert found == [0, 0, 0, 0.5, 0.5, 0.5]
    state.gather_on_rank0()
    other, _ = make_state(tmp_path / "again", "--augment", "ada", "--ada-speed", "64", "--ada-target", "-0.9")
    path = checkpoint.save(tmp_path / "run", state.values(), state.tensors(), keep=1)
    other.load(checkpoint.read(path))
    found = [[s.step(stream[number]).metrics["augment/p"].item() for number in (6, 7)] for s in (state, other)]
    assert found == [[0.5, 1.0]] * 2


def test_a_mismatch_term_of_weight_zero_is_not_computed(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, "--mismatch-weight", "0")
    assert "loss/mismatch" not in state.step(stream[0]).metrics
    state, stream = make_state(tmp_path / "again")
    assert "loss/mismatch" in state.step(stream[0]).metrics


def test_schedules_set_values_before_each_step_and_default_to_constants(tmp_path: Path) -> None:
    words = "--lr-g 0.04 --lr-d 0.02 --warmup-images 16 --decay linear --decay-to 0.5 --decay-images 32"
    state, stream = make_state(tmp_path, *words.split(), *"--gamma 1 --gamma-end 0.5 --beta2-end 0.5".split())
    found = []
    for number in range(5):
        state.step(stream[number])
        assert state.scheduled["schedule/lr_g"] == state.g.optimizer.param_groups[0]["lr"]
        assert state.scheduled["schedule/lr_d"] == state.d.optimizer.param_groups[0]["lr"]
        assert state.scheduled["schedule/gamma"] == state.method.gamma
        for player in (state.g, state.d):
            assert player.optimizer.param_groups[0]["betas"] == (0.0, state.scheduled["schedule/beta2"])
        found.append([state.scheduled[f"schedule/{name}"] for name in ("lr_g", "lr_d", "gamma", "beta2")])
    assert [row[0] for row in found] == pytest.approx([0.02, 0.04, 0.03, 0.02, 0.02])
    assert [row[1] for row in found] == pytest.approx([0.01, 0.02, 0.015, 0.01, 0.01])
    assert found[1][2] == pytest.approx(0.75) and found[4][2:] == [0.5, 0.5]
    plain, _ = make_state(tmp_path / "plain")
    plain.step(stream[0])
    assert plain.scheduled == {} and plain.g.optimizer.param_groups[0]["lr"] == plain.config.optim.lr_g


@pytest.mark.parametrize("total", [48, 96])
def test_a_cooldown_is_the_last_part_of_the_run_however_long(tmp_path: Path, total: int) -> None:
    """The rate is held, falls over the last third, and reaches its end in the last step."""
    words = f"--lr-g 0.04 --lr-d 0.02 --warmup-images 8 --cooldown 0.3333 --total-images {total}"
    state, stream = make_state(tmp_path, *words.split())
    rates = []
    for number in range(total // 8):
        state.step(stream[number])
        rates.append([player.optimizer.param_groups[0]["lr"] for player in (state.g, state.d)])
    assert all(rate == [0.04, 0.02] for rate in rates[: 2 * len(rates) // 3])
    fall = [rate[0] for rate in rates[2 * len(rates) // 3 - 1 :]]
    assert fall == pytest.approx([0.04 - 0.038 * n / (len(fall) - 1) for n in range(len(fall))], rel=1e-3)
    assert rates[-1] == pytest.approx([0.002, 0.001])


def test_with_a_cooldown_other_schedules_end_with_the_run() -> None:
    words = "--cooldown 0.4 --gamma 0.4 --gamma-end 0.04 --total-images 640".split()
    gamma = build_schedules(config.load(words))["gamma"]
    assert [gamma(seen) for seen in (0, 320, 640)] == pytest.approx([0.4, 0.22, 0.04])
    earlier = build_schedules(config.load([*words, "--decay-images", "320"]))["gamma"]
    assert earlier(320) == pytest.approx(0.04)


def test_a_cooldown_of_less_than_an_image_is_the_last_step(tmp_path: Path) -> None:
    state, stream = make_state(tmp_path, *"--lr-g 0.04 --cooldown 0.001 --total-images 16".split())
    rates = []
    for number in range(2):
        state.step(stream[number])
        rates.append(state.g.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.04, 0.002])


def test_steps_use_the_scheduled_half_life_and_augmentation_probability(tmp_path: Path) -> None:
    words = "--ema-half-life 8 --ema-half-life-end 80 --ema-ramp 0 --decay-images 32"
    words += " --augment diff --augment-p 0 --augment-p-end 1"
    state, stream = make_state(tmp_path, *words.split())
    plain, _ = make_state(tmp_path / "plain")
    generator, average = next(state.g.module.parameters()), next(state.ema.module.parameters())
    images = torch.randn(64, 3, 16, 16)
    found = []
    for number in range(5):
        before = average.clone()
        state.step(stream[number])
        found.append([state.scheduled[f"schedule/{name}"] for name in ("ema_half_life", "augment_p")])
        expected = torch.lerp(before, generator, 1 - 0.5 ** (8 / found[-1][0]))
        torch.testing.assert_close(average, expected)
        _, draws = state.method.draw(torch.arange(64), images.dtype, ["noise"], ["test"])
        seen = state.method.augment(images, draws)
        touched = (seen != images).flatten(1).any(1).double().mean().item()
        assert touched == pytest.approx(found[-1][1], abs=0.2)
    progress = [(1 - math.cos(math.pi * min(n, 4) / 4)) / 2 for n in range(1, 6)]
    assert [row[0] for row in found] == pytest.approx([8 + 72 * part for part in progress])
    assert [row[1] for row in found] == pytest.approx(progress)
    assert plain.ema.half_life == plain.config.optim.ema_half_life and plain.augmentation is None
    state.ema.ramp = 0.1  # caps the scheduled half-life too
    state.images_seen = 100
    before = average.clone()
    state.step(stream[5])
    torch.testing.assert_close(average, torch.lerp(before, generator, 1 - 0.5 ** (8 / 10)))


def test_schedule_of_adas_probability_starts_from_no_change(tmp_path: Path) -> None:
    words = "--augment ada-scheduled --augment-p 0 --augment-p-end 0.5 --decay-images 32 --ema-half-life 0"
    words += " --ema-half-life-end 80 --ema-ramp 0"
    state, stream = make_state(tmp_path, *words.split())
    generator, average = next(state.g.module.parameters()), next(state.ema.module.parameters())
    images, touched = torch.randn(64, 3, 16, 16), []
    for number in range(5):
        _, draws = state.method.draw(torch.arange(64), images.dtype, ["noise"], ["test"])
        touched.append((state.method.augment(images, draws) != images).flatten(1).any(1).double().mean().item())
        assert torch.equal(average, generator) == (number == 0), "a half-life of 0 is no average"
        state.step(stream[number])
    assert touched[0] == 0 and touched[4] > 0.9 and state.adaptive is None
    assert state.scheduled["schedule/augment_p"] == 0.5


def test_presets_of_r3gan_follow_the_published_schedules() -> None:
    """FFHQ-64 in the authors' configurations; at half of the burn-in a cosine is half way."""
    schedules = build_schedules(config.load(["--preset", "r3gan64"]))
    expected = {
        "lr_g": (2e-4, 5e-5),
        "lr_d": (2e-4, 5e-5),
        "gamma": (2.0, 0.2),
        "mode_seeking": (0.0, 0.0),
        "beta2": (0.9, 0.99),
        "ema_half_life": (0, 500_000),
        "augment_p": (0.0, 0.3),
    }
    assert schedules.keys() == expected.keys()
    for name, (start, end) in expected.items():
        found = [schedules[name](images) for images in (0, 10_000_000, 20_000_000, 90_000_000)]
        assert found == pytest.approx([start, (start + end) / 2, end, end]), name
    for words in ("--augment none", "--augment ada", "--augment diff", "--decay none", "--cooldown 0.3", "--minutes 5"):
        config.load(["--preset", "r3gan96", *words.split()])  # a choice needs no second one


@pytest.mark.parametrize(
    ("words", "name", "start", "end"),
    [
        ("--augment diff", "augment_p", 1.0, 1.0),
        ("--augment diff --augment-p 0.5", "augment_p", 0.5, 0.5),
        ("--augment-p 0.2", "augment_p", 0.2, 0.2),
        ("--augment-p 0.2 --augment-p-end 0.6", "augment_p", 0.2, 0.6),
        ("--augment ada-scheduled", "augment_p", 0.0, 0.3),
        ("--augment-p-end 0.6", "augment_p", 0.0, 0.6),
        ("--gamma 3", "gamma", 3.0, 3.0),
        ("--betas 0,0.95", "beta2", 0.95, 0.95),
        ("--ema-half-life 1000", "ema_half_life", 1000, 1000),
    ],
)
def test_preset_keeps_no_end_of_a_schedule_that_it_does_not_start(
    words: str, name: str, start: float, end: float
) -> None:
    schedule = build_schedules(config.load(["--preset", "r3gan64", *words.split()]))[name]
    assert [schedule(images) for images in (0, 20_000_000)] == pytest.approx([start, end])


def test_steps_use_the_scheduled_learning_rate(tmp_path: Path) -> None:
    """Adam's first step moves each weight by the learning rate, which is half of its final value here."""
    moved = []
    for warmup in ("0", "16"):
        words = ("--warmup-images", warmup, "--lr-g", "0.01", "--penalty-every", "1000")
        state, stream = make_state(tmp_path / warmup, *words)
        before = [p.clone() for p in state.g.module.parameters()]
        state.step(stream[0])
        pairs = zip(state.g.module.parameters(), before, strict=True)
        moved.append(max((a - b).abs().max().item() for a, b in pairs))
    assert moved == pytest.approx([0.01, 0.005], rel=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_one_weight_that_is_not_finite_is_noticed(value: float, tmp_path: Path) -> None:
    """A large weight is finite, although its square is not; a network without labels has weights without elements."""
    state, _ = make_state(tmp_path)
    state.g.module.register_parameter("without_elements", torch.nn.Parameter(torch.empty(3, 0)))
    assert state.is_finite()
    with torch.no_grad():
        kernel = list(state.d.module.parameters())[3]
        kernel[(0,) * kernel.dim()] = value
    assert state.is_finite() == math.isfinite(value)


def test_every_weight_is_asked_whether_it_is_finite(tmp_path: Path) -> None:
    state, _ = make_state(tmp_path)
    for player in (state.g, state.d):
        for name, weight in player.module.named_parameters():
            held = weight.detach().clone()
            weight.data[(-1,) * weight.dim()] = math.nan
            assert not state.is_finite(), name
            weight.data.copy_(held)
    assert state.is_finite()
