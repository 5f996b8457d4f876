"""Whether Weights & Biases can be reached and an API key is set; the key itself is never printed."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from trainer.preflight.findings import FINE, YELLOW, Finding, Report, split_errors
from trainer.tracking.wandb_run import has_credentials

NAME = "W&B"
_SECONDS = 5.0
_OFFLINE = (
    "training works without it: the run is recorded offline, and `wandb sync` uploads it later; "
    "--wandb-mode offline skips the attempt, --log-with none disables W&B"
)


def gather() -> dict[str, Any]:
    """Return "host", "mode", "key" (whether one is set), and "trouble" if the host was asked (None: it answers)."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    known = wandb.setup(wandb.Settings(silent=True)).settings  # from environment variables and settings files
    url, mode, key = str(known.base_url), str(known.mode), has_credentials(known)
    wandb.teardown()
    facts = {"host": urlsplit(url).hostname or "", "mode": mode, "key": key}
    return facts if mode in ("offline", "dryrun", "disabled") else facts | {"trouble": knock(url)}


def knock(url: str) -> str | None:
    """Return why a server does not answer an HTTP(S) request, possibly through a proxy; None if it does."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError as answer:  # any answer will do
        answer.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason or type(error).__name__)[:200]
    return None


def assess(reports: Sequence[Report]) -> list[Finding]:
    """Assess the facts of rank 0, the only one that connects to W&B."""
    good, failed = split_errors(reports, NAME, NAME, _OFFLINE)
    found = [Finding(YELLOW, finding.topic, finding.says, finding.remedy) for finding in failed]
    for report in good:
        facts, where = report[NAME], f"{report[NAME]['host']} from {report['node']}"
        if "trouble" not in facts:
            found.append(
                Finding(FINE, NAME, f"mode {facts['mode']} (from the environment); the network was not checked")
            )
            continue
        if facts["trouble"]:
            found.append(Finding(YELLOW, NAME, f"no answer from {where}: {facts['trouble']}", _OFFLINE))
        if not facts["key"]:
            how = "run `wandb login`, or set WANDB_API_KEY for the job; without a key, the run is recorded offline"
            found.append(Finding(YELLOW, NAME, "no API key found", how))
        if facts["key"] and not facts["trouble"]:
            found.append(Finding(FINE, NAME, f"{where} answers, and an API key is set (not tested)"))
    return found
