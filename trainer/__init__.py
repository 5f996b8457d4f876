"""Training, sampling and evaluation of conditional GANs on packed data sets."""
