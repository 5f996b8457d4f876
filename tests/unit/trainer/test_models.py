"""Building networks and loading a trained generator."""

from __future__ import annotations

import subprocess
import sys

import torch

from shards.dataset.image_shape import ImageShape
from support import ROOT
from trainer import config
from trainer.models import architecture_of, fresh_networks


def test_loading_a_generator_imports_no_training_framework() -> None:
    program = "import sys, trainer.models; print(*sorted({'accelerate', 'wandb', 'webdataset'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_initial_weights_depend_on_the_seed_alone() -> None:
    architecture = architecture_of(config.load(["--preset", "smoke"]).network, ImageShape.of(16), (3, 1))
    networks = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(elsewhere)
        networks.append([tensor for module in fresh_networks(architecture, seed) for tensor in module.parameters()])
    assert all(map(torch.equal, networks[0], networks[1]))
    assert not all(map(torch.equal, networks[0], networks[2]))
