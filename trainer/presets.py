"""Named sets of options, as data. Each says what it is for; figures beside a preset were measured as stated there."""

from __future__ import annotations

from typing import Any

# The article's optimizer settings.
_ARTICLE_ADAM: dict[str, Any] = {"lr_g": 2e-4, "lr_d": 2e-4, "betas": (0.5, 0.999)}

# R3GAN at 64x64 (Huang et al. 2024): both penalties at every step, betas and learning rate as published.
_R3GAN: dict[str, Any] = {
    "family": "r3gan",
    "channels": (768, 768, 768, 768, 384),
    "loss": "relativistic",
    "gamma": 1.0,
    "penalty_every": 1,
    "batch": 256,
    "total_images": 20_000_000,
    "log_every": 25_600,
    "grid_every": 500_000,
    "checkpoint_every": 500_000,
    "lr_g": 2e-4,
    "lr_d": 2e-4,
    "betas": (0.0, 0.99),
    "ema_half_life": 500_000,
}

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds on any machine; without --shards it draws its own pictures.
    #   accelerate launch --config_file accelerate_config.yaml trainer/main.py --preset smoke
    "smoke": {
        "doc": "seconds: tiny networks on small drawn shapes, to see that everything works",
        "family": "residual",
        "gamma": 0.2,
        "total_images": 1_024,
        "batch": 16,
        "channels": (16, 8, 8),
        "threads": 1,  # two would wait for each other more than compute
        "noise_size": 16,
        "label_size": 16,
        "lr_g": 2e-3,
        "lr_d": 2e-3,
        "log_every": 128,
        "grid_every": 512,
        "checkpoint_every": 512,
        "ema_half_life": 500,
    },
    # Labelled 32x32 faces in 4.7 minutes of two idle CPU cores (EPYC, bf16; 228 images/s). Of three seeds `trainer
    # evaluate` finds 100 % of hair colours, 89 to 95 % of lengths and 85 to 91 % of eyes right in 2,000 pictures; the
    # residual networks had 100, 80 and 76 % after 100,000 images, and pictures much further from real ones.
    #   accelerate launch trainer/main.py --preset faces32 --shards data/faces32
    "faces32": {
        "doc": "32x32 faces within minutes on two CPU cores",
        "family": "r3gan",
        "total_images": 64_000,
        "batch": 32,
        "wrong": "hard",
        "gamma": 0.2,
        "lr_g": 2e-3,
        "lr_d": 2e-3,
        "log_every": 1_000,
        "grid_every": 10_000,
        "checkpoint_every": 10_000,
        "ema_half_life": 10_000,
    },
    # 64x64 by the same networks, a level taller, in about 40 minutes of one CPU thread (EPYC, bf16; 33 images/s, and
    # 68 on two): `trainer evaluate` finds 100 % of hair colours, 90 % of lengths and 83 % of eyes right in 2,000
    # pictures of one run. At 96x96 not measured.
    #   accelerate launch trainer/main.py --preset faces64 --shards data/faces64
    "faces64": {
        "doc": "64x64 faces within an hour on two CPU cores",
        "family": "r3gan",
        "total_images": 80_000,
        "batch": 32,
        "wrong": "hard",
        "gamma": 1.0,
        "lr_g": 1e-3,
        "lr_d": 1e-3,
        "log_every": 1_000,
        "grid_every": 10_000,
        "checkpoint_every": 10_000,
        "ema_half_life": 10_000,
    },
    # The article's networks and loss, to the layer, at 96x96: the reproduction baseline.
    #   accelerate launch trainer/main.py --preset article96 --shards data/faces96
    "article96": {
        "doc": "the article's networks and three-part loss at 96x96: the baseline",
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
    # The article's networks, trained as faces32 is: relativistic loss, wrong labels, lazy penalties, no first momentum.
    #   accelerate launch trainer/main.py --preset article96-modern --shards data/faces96
    # In eleven minutes of two CPU cores it has 7 in 10 hair colours right where article96 has 2
    # (docs/benchmarks.md, time to quality). The settings are from a few short runs; longer ones are not measured.
    "article96-modern": {
        "doc": "the article's networks with relativistic loss and penalties: labels come far sooner",
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
    # Spectral normalisation and a projection head as published (Miyato et al. 2018; Miyato & Koyama 2018), but for the
    # widths, and for one step of D to each of G where they take five (--d-steps 5). For one small GPU; its quality is
    # not measured here. Published: FID 17.5 of CIFAR-10 at 32x32, 27.6 of ImageNet at 128x128; none at 64x64.
    #   accelerate launch trainer/main.py --preset sngan64 --shards data/faces64
    "sngan64": {
        "doc": "64x64 with a spectrally normalised discriminator and hinge loss, for a small GPU",
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
    # The published widths for FFHQ-64, without the published schedules. For eight GPUs of 24 GB or more; not measured
    # here. Published, with those schedules: FID 1.95 of FFHQ at 64x64 (unconditional), 2.09 of ImageNet at 64x64.
    #   accelerate launch --multi_gpu --num_processes 8 trainer/main.py --preset r3gan64 --shards data/faces64
    "r3gan64": {"doc": "64x64 with R3GAN's published widths, for several GPUs", **_R3GAN},
    # The same widths from a base of 6x6. For eight GPUs of 40 GB or more; not measured here, and nothing is published
    # at this size.
    #   accelerate launch --multi_gpu --num_processes 8 trainer/main.py --preset r3gan96 --shards data/faces96
    "r3gan96": {"doc": "96x96 with R3GAN's published widths, for several GPUs", **_R3GAN},
}
