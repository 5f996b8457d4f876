"""Whether Weights & Biases can be reached from here, and has a key; the key itself is never shown."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from trainer.preflight.findings import FINE, YELLOW, Finding, Report, errors
from trainer.tracking.wandb_run import has_credentials

NAME = "W&B"
_SECONDS = 5.0
_OFFLINE = (
    "train all the same: the run is kept offline and `wandb sync` uploads it later from where there is a network; "
    "--wandb-mode offline does not try first, --log-with none leaves W&B out"
)


def look() -> dict[str, Any]:
    """ "host", "mode" of the environment, "key" (whether there is one), and "trouble" if the host does not answer."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    known = wandb.setup(wandb.Settings(silent=True)).settings  # with W&B's environment variables and settings files
    url, mode, key = str(known.base_url), str(known.mode), has_credentials(known)
    wandb.teardown()
    facts = {"host": urlsplit(url).hostname or "", "mode": mode, "key": key}
    return facts if mode in ("offline", "dryrun", "disabled") else facts | {"trouble": knock(url)}


def knock(url: str) -> str | None:
    """Why there is no answer from a server (by TCP, TLS and HTTP, also through a proxy); None: there is one."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError as answer:  # whatever it thinks of the question, it is there
        answer.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason or type(error).__name__)[:200]
    return None


def judge(reports: Sequence[Report]) -> list[Finding]:
    """What rank 0, which speaks to W&B, has found."""
    good, failed = errors(reports, NAME, NAME, _OFFLINE)
    found = [Finding(YELLOW, finding.topic, finding.says, finding.remedy) for finding in failed]
    for report in good:
        facts, where = report[NAME], f"{report[NAME]['host']} from {report['node']}"
        if "trouble" not in facts:
            found.append(Finding(FINE, NAME, f"{facts['mode']} by this environment; nothing was asked of the network"))
            continue
        if facts["trouble"]:
            found.append(Finding(YELLOW, NAME, f"no answer of {where}: {facts['trouble']}", _OFFLINE))
        if not facts["key"]:
            how = "`wandb login`, or WANDB_API_KEY in the job's environment; without, the run is kept offline"
            found.append(Finding(YELLOW, NAME, "there is no key here", how))
        if facts["key"] and not facts["trouble"]:
            found.append(Finding(FINE, NAME, f"{where} answers, and there is a key (not tried)"))
    return found
