"""Run the migration Jobs of a release before its pods change."""

import hashlib
import json
import time

from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import COMPONENT, Key, Manifest, find, key, of_kind

MIGRATION = "migration"
PAUSE = 1.0  # seconds between two requests for the state of a Job
MARGIN = 30.0  # seconds that Kubernetes may be late to end a Job


def migrations(manifests: list[Manifest]) -> list[Manifest]:
    """Return the Jobs with the component `migration`."""
    return [
        job
        for job in of_kind(manifests, "Job")
        if job["metadata"].get("labels", {}).get(COMPONENT) == MIGRATION
    ]


def name_by_content(manifests: list[Manifest]) -> None:
    """Give each migration a name with the hash of what it runs.

    A Job cannot be changed: a new image needs a new one.
    """
    for job in migrations(manifests):
        content = json.dumps(job["spec"], sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()[:8]
        job["metadata"]["name"] = f"{job['metadata']['name'][:54]}-{digest}"


def migrate(kubectl: Kubectl, manifests: list[Manifest]) -> None:
    """Run the migrations and wait for them; one that is done is not run again.

    Raises DeployError if one fails, with the end of its log, or does not end in time.
    """
    for job in migrations(manifests):
        which = key(job)
        live = find(kubectl, which)
        if live is not None and _ended(live) == "Failed":
            kubectl.run("delete", *which.words, "--cascade=foreground")
        kubectl.apply([job])
        _wait(kubectl, which, job["spec"].get("activeDeadlineSeconds", 600) + MARGIN)


def _wait(kubectl: Kubectl, which: Key, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        live = find(kubectl, which)
        ended = _ended(live) if live else None
        if ended == "Complete":
            print(f"{which}: done.")
            return
        if ended == "Failed":
            where = ("--namespace", which.namespace, "--tail", "20")
            log = kubectl.attempt("logs", f"job/{which.name}", *where)
            said = (log.stdout or log.stderr).strip()
            raise DeployError(
                f"{said}\n{which} failed: the pods were not changed and serve on. Mend "
                "the migration or the database, then deploy again."
            )
        time.sleep(PAUSE)
    raise DeployError(
        f"{which} has not ended for {seconds:.0f} s: the pods were not changed and "
        f"serve on. Its log: kubectl --namespace {which.namespace} logs "
        f"job/{which.name}"
    )


def _ended(job: Manifest) -> str | None:
    """Return `Complete` or `Failed`; None while it runs."""
    for condition in job.get("status", {}).get("conditions", []):
        kind = str(condition["type"])
        if kind in ("Complete", "Failed") and condition["status"] == "True":
            return kind
    return None
