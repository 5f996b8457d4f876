"""The command `cgan exhibits RUN`: image grids, or a film, that show what labels and noise do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.core import cli
from shards.core.cli import argument, option, section, seed_option
from shards.core.errors import UserError
from trainer.exhibits.film import FilmOptions, make_film
from trainer.exhibits.grids import exhibits
from trainer.generation import image_grid
from trainer.generation.generate import generate_images
from trainer.generation.load_options import LoadOptions
from trainer.generation.sampler import default_output
from trainer.reporting.run_report import write_report
from trainer.run.exported import ExportedGenerator


@dataclass(frozen=True)
class ExhibitsOptions:
    """Show what labels and noise do: attributes crossed with each other, paths between noises and labels, films."""

    run: Path = argument("run directory, or an exported generator: a folder, or hf://user/name")
    out: Path | None = option(
        None, "folder for the images (default: RUN/exhibits; of an exported generator: ./exhibits)"
    )
    attributes: tuple[str, ...] = option(
        (), "names of attributes to cross with each other (default: those with the most values)"
    )
    seed: int = seed_option("determines the noise and the labels")
    load: LoadOptions = section(LoadOptions)
    films: FilmOptions = section(FilmOptions)

    def __post_init__(self) -> None:
        """Check the values."""
        cli.validate(self)


def main(argv: Sequence[str]) -> None:
    """Run `cgan exhibits`.

    Raises:
        UserError: there is no such run, checkpoint or attribute; nothing was written.
    """
    options = cli.parse(ExhibitsOptions, argv, command="cgan exhibits")
    if options.films.film is None:
        options.films.require_film()
    elif options.out or options.attributes:
        raise UserError("option-conflict", "--out and --attributes are for image grids; omit them with --film")
    sampler = options.load.open(options.run)
    if options.films.film is not None:
        print(make_film(sampler, options.run, options.films, options.seed))
        return
    folder = options.out or default_output(sampler, options.run, "exhibits")
    if folder.exists() and not folder.is_dir():
        raise UserError("not-a-directory", f"--out {folder} is a file; give a folder")
    for exhibit in exhibits(sampler.vocabulary, sampler.noise_size, options.seed, sampler.device, options.attributes):
        images = generate_images(sampler.generator, exhibit.z, exhibit.labels)
        image = image_grid.grid(images, exhibit.columns, exhibit.row_titles, exhibit.column_titles)
        image_grid.save(image, folder / f"{exhibit.name}.png")
        print(folder / f"{exhibit.name}.png", flush=True)
    if options.out is None and not isinstance(sampler.saved, ExportedGenerator):
        write_report(options.run)  # which shows them
