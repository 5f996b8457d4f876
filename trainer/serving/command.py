"""The command `cgan serve RUN`: draw images by words over HTTP, with the playground as its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shards.core import cli
from shards.core.cli import argument, option, section
from shards.core.errors import UserError, warn
from trainer.generation.load_options import LoadOptions
from trainer.generation.sampler import Sampler
from trainer.playground.command import playground
from trainer.playground.page import policy
from trainer.serving.access_token import VARIABLE, read_token
from trainer.serving.address import HostNames, bind, is_loopback, listen, require_name, url_of
from trainer.serving.metrics import Metrics

if TYPE_CHECKING:
    from trainer.serving.app import Page
    from trainer.serving.connection import Connection
    from trainer.serving.guard import Guard

_CONNECTIONS = 256  # at once
_NO_FILE = "none"


@dataclass(frozen=True)
class ServeOptions:
    """Draw images by words over HTTP, and show the playground, until Ctrl-C."""

    run: Path = argument("run directory, or an exported generator: a folder, or hf://user/name")
    host: str = option("127.0.0.1", "address or name to listen at; one that others reach needs a token")
    port: int = option(8000, "port to listen at; 0: a free one", minimum=0, maximum=65535)
    # No optional word: an empty one, as of an unset variable of a shell, must not open the server.
    token: str = option(
        _NO_FILE, f"file with a token that clients must send; {_NO_FILE}: the environment variable {VARIABLE}, if set"
    )
    allow_host: tuple[str, ...] = option((), "names by which clients call this server, besides localhost and --host")
    queue: int = option(64, "requests that may wait; more are refused with status 503", minimum=1, maximum=10_000)
    timeout: float = option(30.0, "seconds that drawing the images of a request may take, with waiting", above=0)
    client_timeout: float = option(10.0, "seconds for a client to send a request, and to take an answer", above=0)
    load: LoadOptions = section(LoadOptions)

    def __post_init__(self) -> None:
        """Check every value against its bounds."""
        cli.validate(self)
        for name in self.allow_host:
            require_name(name)


def main(argv: Sequence[str]) -> None:
    """Run `cgan serve`.

    Raises:
        UserError: there is no such run, the port is in use, or others would reach the server without a token.
    """
    options = cli.parse(ServeOptions, argv, command="cgan serve")
    _require_packages()
    token = read_token(None if options.token == _NO_FILE else options.token)
    if not token and not is_loopback(options.host):
        raise UserError(
            "token-needed",
            f"--host {options.host} can be reached from other machines; set a token with --token FILE or {VARIABLE}",
        )
    with bind(options.host, options.port) as bound:
        sampler = options.load.open(options.run)
        sampler.labels_for("anything" if sampler.vocabulary.text is None else "a", 1)  # the text encoder is there
        app, connections = _built(sampler, options, token)
        listen(bound, options.host)
        print(
            f"{url_of(bound)}: the generator at {sampler.saved.images_seen:,} images seen; Ctrl-C ends it", flush=True
        )
        from trainer.serving import server

        server.run(app, bound, connections, options.timeout + options.client_timeout)


def _built(sampler: Sampler, options: ServeOptions, token: str | None) -> tuple[Guard, type[Connection]]:
    from trainer.serving.app import Patience, Service
    from trainer.serving.connection import Limits, connection_type
    from trainer.serving.guard import Guard, log

    metrics = Metrics()

    def refused(client: object, status: int) -> None:
        metrics.count_request("other", status, 0)
        log(client, f'"-" {status}')

    patience = Patience(options.queue, options.timeout, options.client_timeout)
    service = Service(sampler, _page(sampler, options), patience, metrics)
    names = HostNames((*options.allow_host, options.host))
    guarded = Guard(service.application(), service.routes, names, token, metrics)
    return guarded, connection_type(Limits(options.client_timeout, _CONNECTIONS, refused))


def _page(sampler: Sampler, options: ServeOptions) -> Page | UserError:
    """Return the playground, drawn on the CPU, or why there is none."""
    from trainer.serving.app import Page

    try:
        on_cpu = sampler if sampler.device.type == "cpu" else replace(options.load, device="cpu").open(options.run)
        content = playground(on_cpu, options.run.resolve().name).encode("utf-8", "replace")
    except UserError as error:
        warn(error.code, f"there is no page at /: {error}")
        return error
    return Page(content, f"{policy()}; frame-ancestors 'none'")


def _require_packages() -> None:
    """Check that Starlette and uvicorn are installed.

    Raises:
        UserError: they are not.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UserError(
            "package-missing", 'cgan serve needs packages that are not installed: pip install "cgan-trainer[serve]"'
        ) from None
