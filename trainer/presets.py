"""Named sets of options, as data. The comment of each preset states its purpose, and how its numbers were measured."""

from __future__ import annotations

from typing import Any

# The article's optimizer settings.
_ARTICLE_ADAM: dict[str, Any] = {"lr_g": 2e-4, "lr_d": 2e-4, "betas": (0.5, 0.999)}

# R3GAN at 64x64 (Huang et al. 2024, arXiv 2501.05441), with the values of FFHQ-64 in the authors' configurations
# (github.com/brownvc/R3GAN, train.py). A burn-in of 20 million images takes, along cosines,
#
#     learning rate   2e-4 -> 5e-5     Adam's beta 2     0.9 -> 0.99     EMA half-life   0 -> 500,000 images
#     gamma           2 -> 0.2         probability of each of ADA's changes              0 -> 0.3
#
# and after it they stay. Both penalties are in every step. Published runs are longer than the burn-in, to which
# --total-images is set here. Not as published: the discriminator learns wrong labels, ADA has no cutout, and its
# changes of colours have the full probability and not half of it.
_R3GAN: dict[str, Any] = {
    "family": "r3gan",
    "channels": (768, 768, 768, 768, 384),
    "loss": "relativistic",
    "gamma": 2.0,
    "gamma_end": 0.2,
    "penalty_every": 1,
    "batch": 256,
    "total_images": 20_000_000,
    "log_every": 25_600,
    "grid_every": 500_000,
    "checkpoint_every": 500_000,
    "lr_g": 2e-4,
    "lr_d": 2e-4,
    "decay": "cosine",
    "decay_to": 0.25,
    "decay_images": 20_000_000,
    "betas": (0.0, 0.9),
    "beta2_end": 0.99,
    "ema_half_life": 0,
    "ema_half_life_end": 500_000,
    "ema_ramp": 0,
    "augment": "ada-scheduled",
    "augment_p": 0.0,
    "augment_p_end": 0.3,
    "flip": True,  # as published; --flip false for images of text, glyphs or left-right labels
}

# The recipe of the example. One bottleneck a level, batches of 8 and one pass for both updates make for many updates in
# little time; D learns labels by cross-entropy and sees each level's means, noise and label reach every block of G,
# mode seeking keeps images of one label different until its weight has fallen, and penalties and learning rates fall at
# the end (docs/benchmarks.md, the example). The penalty grows with the images: in R3GAN from 2 at 64 pixels to 150 at
# 256, here with the 1.3rd power of the size.
_FACES: dict[str, Any] = {
    "family": "r3gan",
    "blocks": 1,
    "image_kernel": 3,
    "modulation": True,
    "level_means": True,
    "label_loss": 0.5,
    "updates": "joint",
    "batch": 8,
    "wrong": "hard",
    "mode_seeking": 0.3,
    "mode_seeking_end": 0.0,
    "gamma": 0.4,
    "gamma_end": 0.04,
    "lr_g": 1e-3,
    "lr_d": 1e-3,
    "betas": (0.0, 0.99),
    "cooldown": 0.4,
    "log_every": 1_000,
    "grid_every": 10_000,
    "checkpoint_every": 10_000,
    "threads": 1,  # in batches of 8 two threads mostly wait for each other, and for other programs
    "ema_half_life": 10_000,
}

PRESETS: dict[str, dict[str, Any]] = {
    # Takes seconds on any machine; without --shards it generates its own images.
    #   accelerate launch --config_file accelerate_config.yaml trainer/main.py --preset smoke
    "smoke": {
        "doc": "seconds: tiny networks on generated shapes, to check that everything works",
        "family": "residual",
        "gamma": 0.2,
        "total_images": 1_024,
        "batch": 16,
        "channels": (16, 8, 8),
        "threads": 1,  # two would spend more time on synchronization than on computation
        "noise_size": 16,
        "label_size": 16,
        "lr_g": 2e-3,
        "lr_d": 2e-3,
        "log_every": 128,
        "grid_every": 512,
        "checkpoint_every": 512,
        "ema_half_life": 500,
    },
    # Labelled faces; figures and images are in docs/benchmarks.md (the example, 64 and 96 pixels).
    #   accelerate launch trainer/main.py --preset faces32 --shards data/faces32
    "faces32": {"doc": "32x32 faces within minutes on two CPU cores", **_FACES, "total_images": 110_000},
    "faces64": {
        "doc": "64x64 faces within half an hour on two CPU cores",
        **_FACES,
        "channels": (64, 48, 32, 16, 8),
        "gamma": 1.0,
        "gamma_end": 0.1,
        "total_images": 70_000,
    },
    "faces96": {
        "doc": "96x96 faces within an hour on two CPU cores",
        **_FACES,
        "channels": (64, 48, 32, 16, 8),
        "gamma": 1.7,
        "gamma_end": 0.17,
        "total_images": 60_000,
    },
    # The networks and the loss of the article, layer by layer, at 96x96: the reproduction baseline.
    #   accelerate launch trainer/main.py --preset article96 --shards data/faces96
    "article96": {
        "doc": "networks and three-part loss of the article at 96x96: the baseline",
        "family": "article",
        "loss": "matching-aware",
        "mismatch": "real",
        "gamma": 0.0,
        "noise_size": 100,
        "batch": 16,
        "total_images": 500_000,
        "log_every": 500,
        "grid_every": 10_000,
        "checkpoint_every": 20_000,
        **_ARTICLE_ADAM,
    },
    # The article's networks, trained by another method: relativistic loss, wrong labels, lazy penalties, no first
    # momentum.
    #   accelerate launch trainer/main.py --preset article96-modern --shards data/faces96
    # After eleven minutes on two CPU cores, 7 of 10 hair colours are right, and 2 of 10 with article96
    # (docs/benchmarks.md, time to quality). The settings are from a few short runs; longer runs were not measured.
    "article96-modern": {
        "doc": "the article's networks with relativistic loss and penalties: learns labels much sooner",
        "family": "article",
        "loss": "relativistic",
        "mismatch": "real",
        "gamma": 0.2,
        "penalty_every": 16,
        "noise_size": 100,
        "batch": 16,
        "total_images": 200_000,
        "log_every": 500,
        "grid_every": 10_000,
        "checkpoint_every": 20_000,
        "lr_g": 1e-3,
        "lr_d": 1e-3,
        "betas": (0.0, 0.95),
        "ema_half_life": 10_000,
    },
    # Spectral normalization and a projection head as published (Miyato et al. 2018; Miyato & Koyama 2018), except for
    # the widths and for one D step per G step (published: five, --d-steps 5). For one GPU of any size (--dry-run
    # estimates 1.2 GB); not measured here.
    # Published: FID 17.5 on CIFAR-10 at 32x32, 27.6 on ImageNet at 128x128; none at 64x64.
    #   accelerate launch trainer/main.py --preset sngan64 --shards data/faces64
    "sngan64": {
        "doc": "64x64 with a spectrally normalized discriminator and hinge loss, for a small GPU",
        "family": "residual",
        "spectral_norm": True,
        "loss": "hinge",
        "mismatch": "none",
        "gamma": 0.0,
        "noise_size": 128,
        "batch": 64,
        "total_images": 2_000_000,
        "lr_g": 2e-4,
        "lr_d": 2e-4,
        "betas": (0.0, 0.9),
    },
    # The published widths and schedules for FFHQ-64. For eight GPUs of 16 GB or more, of which
    # --dry-run estimates that 12 GB are used (20 GB with --penalty-precision full), or one of 24 GB with
    # --accumulate 4; no GPU has run it yet. Published: FID 1.95 on FFHQ at 64x64 (unconditional), and with wider
    # networks and other schedules 2.09 on ImageNet at 64x64.
    #   accelerate launch --multi_gpu --num_processes 8 trainer/main.py --preset r3gan64 --shards data/faces64
    "r3gan64": {"doc": "64x64 with R3GAN's published widths and schedules, for several GPUs (not measured)", **_R3GAN},
    # The same widths from a base of 6x6. For eight GPUs of 40 GB or more, of which --dry-run estimates that 24 GB are
    # used, or of 24 GB with --accumulate 2. No GPU has run it yet, and nothing is published at this size: gamma, which
    # grows with the images, is interpolated on a logarithmic scale between the 2 at 64x64 and the 150 of FFHQ-256.
    #   accelerate launch --multi_gpu --num_processes 8 trainer/main.py --preset r3gan96 --shards data/faces96
    "r3gan96": {
        "doc": "96x96 with R3GAN's published widths and schedules, for several GPUs (not measured)",
        **_R3GAN,
        "gamma": 7.0,
        "gamma_end": 0.7,
    },
}
