"""The other methods of the benchmark of quality: that each is what it says, resumes, and is evaluated as a run is."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import other_evaluation
import other_run
import pytest
import torch
from other_methods import lightweight, run_files
from other_methods.flow_matching import CHANNELS, FlowMatching, Integrator, Velocity
from other_methods.lightweight import LightweightGan
from other_methods.method import Method
from quality.legs import LEGS
from torch import Tensor, nn

from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import ImageShape
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support.errors import raises
from trainer import config
from trainer.models import architecture_of, fresh_networks
from trainer.run import evaluation_file
from trainer.run.metrics_file import read

WIDTHS = (2, 3)
LABEL, KNOWN = torch.eye(2).repeat(2, 1), torch.ones(4, 2)


def batch_of(method: Method, count: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Images of two colours that labels of two attributes tell apart."""
    torch.manual_seed(1)
    first = torch.arange(count) % 2
    label = torch.cat([torch.eye(2)[first], torch.eye(3)[torch.zeros(count, dtype=torch.long)]], 1)
    images = (255 * first[:, None, None, None]).expand(-1, 3, 32, 32).to(torch.uint8).contiguous()
    return images, label, torch.ones(count, 2)


# ---------------------------------------------------------------- flow matching


class Field(nn.Module):
    """A velocity that is known: x, plus 2 where a label is known."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor, known: Tensor) -> Tensor:
        return x + 2 * known[:, :1, None, None]


def test_integration_is_of_second_order_and_guided() -> None:
    z = torch.ones(2, 3 * 4 * 4)

    def end(steps: int, guidance: float, known: float) -> float:
        return float(Integrator(Field(), 4, steps, guidance)(z, LABEL[:2], torch.full((2, 2), known)).mean())

    exact = math.e  # of dx/dt = x from 1
    errors = [abs(end(steps, 0.0, 0.0) - exact) for steps in (10, 20)]
    assert errors[0] < 5e-3 and errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert end(20, 0.0, 1.0) == pytest.approx(3 * math.e - 2, rel=1e-3), "dx/dt = x + 2"
    assert end(20, 0.5, 1.0) == pytest.approx(4 * math.e - 3, rel=1e-3), "half as far again from the one without"


@pytest.mark.parametrize("size", sorted(CHANNELS))
def test_the_network_is_as_large_as_the_generator_that_it_is_compared_with(size: int) -> None:
    options = config.load(["--preset", f"faces{size}"])
    generator, _ = fresh_networks(architecture_of(options.network, ImageShape.of(size), (12, 3, 10)), 0)
    counts = [sum(p.numel() for p in net.parameters()) for net in (generator, Velocity(size, (12, 3, 10)))]
    assert 0.9 < counts[1] / counts[0] < 1.25


def test_a_label_that_is_dropped_does_not_matter() -> None:
    net = Velocity(32, WIDTHS).eval()
    for parameter in net.parameters():  # some begin at zero, and nothing would follow from a label
        nn.init.normal_(parameter, 0.0, 0.1)
    x, t, (_, label, known) = torch.randn(4, 3, 32, 32), torch.rand(4), batch_of(FlowMatching(32, WIDTHS, x_device()))
    with torch.no_grad():
        follows = net(x, t, label, known) - net(x, t, label.roll(1, 0), known)
        dropped = net(x, t, label, 0 * known) - net(x, t, label.roll(1, 0), 0 * known)
    assert follows.abs().max() > 1e-3 and dropped.abs().max() == 0


def x_device() -> torch.device:
    return torch.device("cpu")


def test_flow_matching_resumes_where_it_was(tmp_path: Path) -> None:
    one, other = (FlowMatching(32, WIDTHS, x_device()) for _ in range(2))
    inputs = batch_of(one)
    torch.manual_seed(2)
    for seen in (0, 32):
        one.step(*inputs, seen)
    run_files.write(tmp_path, run_files.Saved("flow-matching", 64, "data", "its fingerprint"), one.tensors())
    other.load(run_files.tensors_of(tmp_path), run_files.images_seen(tmp_path))
    for method in (one, other):
        torch.manual_seed(3)
        method.step(*inputs, 64)
    ours, theirs = one.tensors(), other.tensors()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.exhaustive
def test_flow_matching_learns_what_a_label_means() -> None:
    torch.manual_seed(0)
    method = FlowMatching(32, WIDTHS, x_device())
    images, label, known = batch_of(method, 16)
    for step in range(150):
        method.step(images, label, known, 32 * step)
    with torch.no_grad():
        found = method.generator()(torch.randn(16, method.noise_size), label, known).mean((1, 2, 3))
    assert (found[0::2] < -0.5).all() and (found[1::2] > 0.5).all()


# ---------------------------------------------------------------- lightweight-gan


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightweight_gan.lightweight_gan", None)
    with raises("package-missing", "lightweight_gan", "pip install --no-deps lightweight-gan==1.2.1"):
        LightweightGan(32, 6_000)
    left = {name: sys.modules.get(name) for name in lightweight._STAND_INS}
    assert all(module is None or module.__file__ for module in left.values()), "no stand-in is left to other code"


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("lightweight_gan") is None, reason="needs the package lightweight-gan")
def test_the_package_trains_on_a_cpu_and_resumes() -> None:
    one, other = (LightweightGan(32, 6_000) for _ in range(2))
    for method in (one, other):  # its defaults take a minute a step
        method.trainer.batch_size, method.trainer.gradient_accumulate_every = 2, 1
    assert one.trainer.aug_prob == pytest.approx(0.282) and one.trainer.aug_types == ["cutout", "translation"]
    inputs, before = batch_of(one, 2), one.tensors()
    before = {name: tensor.clone() for name, tensor in before.items()}
    one.step(*inputs, 0)
    after = one.tensors()
    moved = {name[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {"G", "D"} <= moved and one.trainer.steps == 1 and not torch.cuda.is_available()
    other.load(after, LightweightGan.batch)
    assert other.trainer.steps == 1

    def drawn(method: LightweightGan) -> Tensor:
        torch.manual_seed(4)  # its layers add noise of their own
        z = torch.randn(2, method.noise_size)
        with torch.no_grad():
            return method.generator()(z, z, z)

    images, again = drawn(one), drawn(other)
    assert images.shape == (2, 3, 32, 32) and images.abs().max() <= 1 and torch.equal(images, again)


# ---------------------------------------------------------------- their runs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A packed dataset of 96 shapes at 32 pixels."""
    write_folder(tmp_path / "shapes", 96, 32)
    pack(Pack(src=tmp_path / "shapes", out=tmp_path / "data", size=32))
    return tmp_path / "data"


@pytest.mark.exhaustive
def test_a_run_resumes_and_is_evaluated_as_ours_are(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"

    def train(images: int) -> None:
        other_run.main(["--shards", str(data), "--run", str(run), "--total-images", str(images), "--log-every", "32"])

    train(32)
    train(64)
    assert [row["images_seen"] for row in read(run / "metrics.jsonl")] == [32, 64]
    assert LEGS["flow-matching32"].saved(run) == [64] and LEGS["flow-matching32"].saved(tmp_path) == []
    words = ["--count", "16", "--features", "judge", "--metrics", "fid,prdc", "--threads", "1"]
    other_evaluation.main([str(run), *words])
    seen, entry = evaluation_file.newest(run) or (0, {"a": torch.zeros(1)})
    assert seen == 64 and {"fid", "precision", "coverage"} <= entry["figures"].keys()
    assert entry["marks"]["fid"] == ["training-images"] and (run / "grid.png").stat().st_size > 1_000


def test_a_run_of_the_trainer_keeps_its_metrics(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "ours"
    run.mkdir()
    for name in ("config.yaml", "metrics.jsonl"):
        (run / name).write_text('{"images_seen": 64}\n')
    with raises("wrong-run", run):
        other_run.main(["--shards", str(data), "--run", str(run)])
    assert (run / "metrics.jsonl").read_text()


def test_a_dataset_smaller_than_a_batch_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "shapes", 12, 32)
    pack(Pack(src=tmp_path / "shapes", out=tmp_path / "data", size=32))
    with raises("wrong-dataset", "12 images", "batch of 32"):
        other_run.main(["--shards", str(tmp_path / "data"), "--run", str(tmp_path / "run")])


def test_bad_requests_are_named(data: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "small", 8, 16)
    pack(Pack(src=tmp_path / "small", out=tmp_path / "small-data", size=16))
    with raises("wrong-dataset", "16x16", "32x32 or 64x64"):
        other_run.main(["--shards", str(tmp_path / "small-data"), "--run", str(tmp_path / "run")])
    with raises("run-missing", "other_run.py"):
        other_evaluation.main([str(tmp_path / "nothing")])
    (tmp_path / "run").mkdir()
    run_files.write(
        tmp_path / "run", run_files.Saved("lightweight-gan", 40, str(data), "of another dataset"), {"a": torch.zeros(1)}
    )
    with raises("wrong-dataset", "lightweight-gan", "--run"):
        other_run.main(["--shards", str(data), "--run", str(tmp_path / "run")])
    of_a_seed = run_files.Saved("flow-matching", 32, str(data), Dataset.open(data).fingerprint, 1)
    run_files.write(tmp_path / "run", of_a_seed, {"a": torch.zeros(1)})
    with raises("run-options-differ", "--seed 1"):
        other_run.main(["--shards", str(data), "--run", str(tmp_path / "run")])
    with raises("wrong-dataset", data):
        other_evaluation.main([str(tmp_path / "run")])
    with raises("wrong-dataset", "16x16"):
        other_evaluation.main([str(tmp_path / "run"), "--shards", str(tmp_path / "small-data")])
    for option in ("--checkpoint=32", "--device=cuda"):
        with raises("option-without-effect", option.partition("=")[0]):
            other_evaluation.main([str(tmp_path / "run"), option])
    (tmp_path / "run" / "method.safetensors").write_bytes(b"no tensors")
    with raises("run-damaged", "method.safetensors"):
        other_evaluation.main([str(tmp_path / "run")])
