"""The CUDA path, run on a GPU that does not exist: the real trainer on fake tensors, which have everything but numbers.

No operation mixes devices, no step waits for the GPU, and no step of a preset launches more kernels or needs more
memory than `tests/data/cuda_budget.json` allows. After a change that makes steps cheaper, or dearer for a reason that
the commit message gives, rewrite the budget:

    python tests/system/test_cuda_path.py
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if __name__ == "__main__":  # run as a script: make the repository importable
    sys.path[:0] = [str(Path(__file__).resolve().parents[parent]) for parent in (1, 2)]

from support import ROOT
from support.fake_cuda import guard
from support.fake_cuda.client import FakeCuda
from support.pairwise import Row, pairwise
from trainer.config.network import CLASSIFYING, CONDITIONINGS
from trainer.config.registries import registry_keys
from trainer.presets import PRESETS

BUDGET = ROOT / "tests" / "data" / "cuda_budget.json"
# Image sizes of the presets, and the batches of one GPU of those that are for several.
SIZES = {"smoke": 16, "faces32": 32, "faces64": 64, "faces96": 96, "article96": 96, "article96-modern": 96}
SIZES |= {"sngan64": 64, "r3gan64": 64, "r3gan96": 96}
BATCHES = {"r3gan64": 32, "r3gan96": 32}
QUICK = ("smoke",)  # presets that are measured by default
ADA = "faces32 with ada"  # as costly as augmentation gets
MEASURED = (*SIZES, ADA)
SMALL = "--batch 4 --channels 4,4 --noise-size 4 --label-size 4"

FACTORS = {
    "family": ("residual", "r3gan", "article"),
    "loss": registry_keys("losses.py", "LOSSES"),
    "conditioning": CONDITIONINGS,
    "augment": ("none", "diff --flip", "ada --flip", "ada-scheduled --augment-p 0.1"),
    "mixed-precision": ("no", "bf16", "fp16"),
    "mismatch": ("real", "generated", "none"),
    "further": (
        "",
        "--spectral-norm",
        "--modulation --level-means --image-kernel 3",
        "--resize filter",
        "--accumulate 2",
        "--interpolate 0.5",
        "--d-steps 2",
        "--gamma-end 0.5 --beta2-end 0.9 --ema-half-life-end 5 --warmup-images 100 --decay-images 1000",
    ),
}


def _allowed(row: Row) -> bool:
    if row["further"].startswith("--modulation") and row["family"] == "article":
        return False
    if row["further"] == "--resize filter" and row["family"] != "residual":
        return False
    return row["conditioning"] not in CLASSIFYING or row["mismatch"] == "none"


ROWS = pairwise(FACTORS, _allowed)
MARKS = [(), (), *[pytest.mark.long] * 10, pytest.mark.exhaustive]  # of the first rows, and of all others


@pytest.fixture(scope="module")
def gpu() -> Iterator[FakeCuda]:
    """The process on the fake GPU."""
    if reason := guard.missing():
        if os.environ.get(guard.NEEDED):
            pytest.fail(f"{guard.NEEDED} is set, but {reason}")
        pytest.skip(reason)
    with FakeCuda() as process:
        yield process


def options(row: Row) -> tuple[str, int]:
    """Return the trainer's options of a row, and the size of the images."""
    words = " ".join(f"--{name} {value}" for name, value in row.items() if name != "further")
    words += f" {row['further']} --batch 8 --gamma 1 --penalty-every 2 --noise-size 8"
    return (words, 96) if row["family"] == "article" else (f"{words} --label-size 8 --channels 16,16,16", 16)


def measured(gpu: FakeCuda, preset: str) -> dict[str, dict[str, float]]:
    """Return what each kind of step of a preset costs on one GPU, as the budget has it."""
    name = preset.removesuffix(" with ada")
    words = f"--preset {name}" + (f" --batch {BATCHES[preset]}" if preset in BATCHES else "")
    words += " --augment ada --flip" if preset == ADA else ""
    costs = gpu.run("costs", words, SIZES[name])
    return {kind: {name: cost[name] for name in COSTS} for kind, cost in costs.items()}


COSTS = ("kernels", "peak_megabytes", "wide_convolutions")


# ---------------------------------------------------------------- every part of the trainer


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=MARKS[min(n, len(MARKS) - 1)], id=str(n)) for n, row in enumerate(ROWS)],
)
def test_training_saving_and_generating_keep_to_the_gpu_and_no_step_waits_for_it(gpu: FakeCuda, row: Row) -> None:
    found = gpu.run("train", *options(row))
    for kind in ("plain", "penalty"):
        assert not found[kind]["waits"], f"{kind} step of {row}"
        assert found[kind]["copies"] == {"cpu to cuda": 7, "cuda to cpu": 1}, "a batch, and the finite terms"
    assert not found["save"]["waits"]
    assert set(found["save"]["copies"]) == {"cuda to cpu"}
    waits = "\n".join(found["grid"]["waits"])
    assert waits.count("trainer/generation/generate.py") == len(found["grid"]["waits"]), "labels in, images out"


def test_no_step_waits_for_pseudo_labels(gpu: FakeCuda) -> None:
    found = gpu.run("costs", f"--preset smoke {SMALL} --label-loss 0.5 --pseudo-labels 0.9", 8)
    for kind, cost in found.items():
        assert not cost["waits"], kind
        assert cost["copies"] == {"cpu to cuda": 7, "cuda to cpu": 1}, kind


def test_no_step_waits_when_images_are_not_square(gpu: FakeCuda) -> None:
    """Nor when they are transparent."""
    found = gpu.run("costs", f"--preset smoke {SMALL} --augment ada --flip", (4, 6, 8))
    for kind, cost in found.items():
        assert not cost["waits"], kind
        assert cost["copies"] == {"cpu to cuda": 7, "cuda to cpu": 1}, kind


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "verdict", "says"),
    [
        ("place", "NOTE", "a GPU that does not exist"),
        pytest.param("no_waiting", "PASS", "1 networks in bf16 and fp16", marks=pytest.mark.exhaustive),
        ("saving", "PASS", "MB; the first takes "),
        ("pace", "PASS", "images/s, MFU -"),
        ("second_derivative", "NOTE", "(64, 1536, 16, 16), 96 groups: "),
    ],
)
def test_check_for_real_gpus_runs(gpu: FakeCuda, name: str, verdict: str, says: str) -> None:
    """Those that go without numbers; `test_benchmarks.py` rehearses all of them on the CPU."""
    found = gpu.run("gpu_check", name)
    assert found[0] == verdict, found[1]
    assert says in found[1]


@pytest.mark.parametrize(
    ("words", "sums"),
    [
        ("--accumulate 2 --mixed-precision bf16 --penalty-every 8", 0),
        pytest.param("--augment ada --flip --mixed-precision fp16", 1, marks=pytest.mark.long),
    ],
)
def test_no_rank_waits_for_its_gpu_while_ddp_reduces_gradients(gpu: FakeCuda, words: str, sums: int) -> None:
    """Once per player and step, also over two micro-batches; the fourth step sums ADA's signs as well."""
    found = gpu.run("one_of_two", f"--preset smoke {SMALL} {words}", 8)
    assert found["log"]["waits"], "a log step may wait"
    for kind in found.keys() - {"log"}:
        assert not found[kind]["waits"]
        assert found[kind]["copies"] == {"cpu to cuda": 7, "cuda to cpu": 1}
        expected = {"gradients": 2} | ({"values": sums} if sums and kind == "plain" else {})
        assert found[kind]["collectives"] == expected, kind


WAITS_OF_A_RUN = {  # where a run may wait for the GPU
    "trainer/fresh_state.py": "the networks move to it",
    "trainer/distributed/process_group.py": "a log step reads its metrics",
    "trainer/state.py": "a save asks whether the weights are finite",
    "trainer/run/state_dicts.py": "a checkpoint moves to it",
    "trainer/generation/": "images come from it",
    "trainer/tracking/variety.py": "the positions of the noise of variety move to it",
    "trainer/evaluation/": "what an evaluation measures comes from it",
}


@pytest.mark.long
def test_a_run_logs_saves_draws_evaluates_and_resumes_on_the_gpu(
    gpu: FakeCuda, small_dataset: Path, tmp_path: Path
) -> None:
    words = (
        f"--preset smoke --channels 4,4,4 --shards {small_dataset} --run {tmp_path / 'run'} --workers 0 --log-with none"
    )
    words += " --log-every 32 --checkpoint-every 32 --grid-every 64 --evaluate-every 64"
    for total, steps in ((64, 4), (96, 2)):
        found = gpu.run("whole_run", f"{words} --total-images {total}")
        places = {wait.rpartition(" at ")[2] for wait in found["waits"]}
        assert all(place.startswith(tuple(WAITS_OF_A_RUN)) for place in places), places
        assert found["copies"]["cpu to cuda"] == 7 * steps
    assert [path.name for path in sorted((tmp_path / "run" / "samples").iterdir())] == [
        "000000000064.png",
        "000000000096.png",
    ]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows if "loss/d" in row] == [32, 64, 96]
    assert [row["images_seen"] for row in rows if "evaluate/kid" in row] == [64, 96]


def test_generated_images_are_evaluated_on_the_gpu(gpu: FakeCuda) -> None:
    shapes = gpu.run("evaluate", f"--preset smoke {SMALL}", 8)
    expected = {"extractor": [130, 1280]}
    for judge in ("strided", "pooled"):
        expected |= {f"{judge} judge's features": [130, 128], f"{judge} judge's logits": [130, 6]}
    assert shapes == expected


# ---------------------------------------------------------------- the budget


@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.long]) for name in MEASURED]
)
def test_no_step_of_a_preset_exceeds_its_budget(gpu: FakeCuda, preset: str) -> None:
    allowed, found = json.loads(BUDGET.read_text())[preset], measured(gpu, preset)
    assert found.keys() == allowed.keys()
    for kind, name in itertools.product(found, COSTS):
        assert found[kind][name] <= allowed[kind][name], f"{name} of the {kind} step"


def test_every_preset_has_a_budget() -> None:
    assert set(json.loads(BUDGET.read_text())) == set(MEASURED)
    assert set(SIZES) == set(PRESETS)


# ---------------------------------------------------------------- would it notice?


@pytest.fixture(scope="module")
def careless(gpu: FakeCuda) -> dict[str, Any]:
    """What a step costs with each of the careless changes (see `support.fake_cuda.careless`), or its error."""
    return gpu.run("careless", f"--preset smoke {SMALL}", 8)


@pytest.mark.parametrize(
    ("change", "wait"),
    [
        ("a value", "a value is read"),
        ("a condition", "a value is read"),
        ("a list", "a value is read"),
        ("numbers from the host", "a copy from cpu to cuda blocks"),
        ("a copy to the host", "a copy from cuda to cpu blocks"),
        ("a copy that is read early", "a value is read"),
        ("a copy to pageable memory", "not pinned"),
        ("an index made on the CPU", "index of tensors on the CPU and on the GPU"),
    ],
)
def test_a_step_that_waits_is_noticed(careless: dict[str, Any], change: str, wait: str) -> None:
    assert not careless["none"]["waits"]
    waits = list(careless[change]["waits"])
    assert any(wait in found and "trainer/step.py" in found for found in waits), waits


@pytest.mark.parametrize(
    ("change", "error"), [("a tensor made on the CPU", "DeviceMismatch"), ("a mask", "DynamicOutputShape")]
)
def test_mixed_devices_and_shapes_that_depend_on_values_are_errors(
    careless: dict[str, Any], change: str, error: str
) -> None:
    assert error in careless[change]


def test_kernels_and_memory_are_counted(careless: dict[str, Any]) -> None:
    usual = careless["none"]
    assert careless["a kernel more"]["kernels"] == usual["kernels"] + 1
    assert careless["memory"]["peak_megabytes"] > usual["peak_megabytes"] + 30


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(__doc__)
    with FakeCuda() as process:
        budget = {preset: measured(process, preset) for preset in MEASURED}
    BUDGET.write_text(json.dumps(budget, indent=1) + "\n")
