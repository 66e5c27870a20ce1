"""`make deploy`, `make rollback`, `make releases` and the way in for `make smoke`."""

import argparse
import sys
import time

from deploy import fields, preflight
from deploy.diagnosis import explain
from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import (
    OUTPUT,
    OVERLAYS,
    Key,
    Manifest,
    check_stage,
    image_of,
    key,
    least_replicas,
    of_kind,
    render,
    server,
    write_kustomization,
)
from deploy.releases import PRUNED, Release, Releases, commit, prune
from deploy.rollout import RolloutError, wait

# Whose the number of pods is until the autoscaler changes it.
FIRST_REPLICAS = "first-replicas"
# What the release before was, for the pipeline; not there before something is applied.
EARLIER = OUTPUT / "earlier"


def deploy(kubectl: Kubectl, stage: str, image: str, room: bool) -> None:
    """Apply the overlay of a stage with an image, and wait until it runs."""
    EARLIER.unlink(missing_ok=True)
    check_stage(stage)
    if image == "live":
        image = _live_image(kubectl, server(render(kubectl, OVERLAYS / stage)))
    write_kustomization(stage, image)
    manifests = render(kubectl, OUTPUT)
    live = preflight.check(kubectl, manifests, room)
    releases = Releases(kubectl, server(manifests))
    # A release is recorded before anything of it is there, but for the place of the record.
    _apply(
        kubectl,
        [one for one in of_kind(manifests, "Namespace") if key(one) not in live],
    )
    known, earlier = _what_is_there(releases, manifests, live)
    release = releases.record(
        max(known, default=0) + 1, manifests, earlier, commit=commit()
    )
    EARLIER.write_text("" if earlier is None else str(earlier), encoding="utf-8")
    try:
        _install(kubectl, release, known, live)
    except DeployError as error:
        releases.mark(release.number, "failed")
        way_back = "" if earlier is None else f"\nThe way back: make rollback ENV={stage}"
        raise DeployError(f"{error}{way_back}") from None
    releases.finish(release.number)
    print(f"{stage} runs release {release.number}: {image}")


def rollback(kubectl: Kubectl, stage: str, to: str) -> None:
    """Apply an earlier release again, as it was recorded, and wait until it runs."""
    plain = render(kubectl, check_stage(stage))
    releases = Releases(kubectl, server(plain))
    known = releases.read()
    target = _target(releases, known, _live(kubectl, server(plain)), to)
    # The pods of the earlier release may still be there: no room is asked for.
    live = preflight.check(kubectl, target.manifests, room=False)
    _install(kubectl, target, known, live)
    releases.finish(target.number)
    print(f"{stage} is back at release {target.number}: {target.image}")


def show_releases(kubectl: Kubectl, stage: str) -> None:
    """List the recorded releases of a stage, the newest last."""
    deployment = server(render(kubectl, check_stage(stage)))
    releases = Releases(kubectl, deployment)
    known = releases.read()
    live = releases.live(_live(kubectl, deployment), known)
    for one in known.values():
        runs = "runs" if one == live else ""
        print(f"{one.number:>4} {one.created} {one.outcome:<8} {runs:<4} {one.image}")
        print(f"     commit {one.commit or 'unknown'}")
    if not known:
        print("No release is recorded: make deploy makes the first.")


def show_tunnel(kubectl: Kubectl, stage: str) -> None:
    """Print the command that leads to the Service of a stage."""
    manifests = render(kubectl, check_stage(stage))
    namespace = server(manifests)["metadata"]["namespace"]
    names = [one["metadata"]["name"] for one in of_kind(manifests, "Service")]
    command = ("kubectl", *kubectl.options, "--namespace", namespace, "port-forward")
    print(*command, f"service/{names[0]}", ":http")


def _what_is_there(
    releases: Releases, manifests: list[Manifest], live: dict[Key, Manifest]
) -> tuple[dict[int, Release], int | None]:
    """The recorded releases, and the number of that to which a rollback will go.

    What runs without a record, from an older `make deploy`, gets one first.
    """
    known = releases.read()
    there = live.get(key(server(manifests)))
    runs = releases.live(there, known)
    if runs:
        return known, runs.number if runs.outcome == "deployed" else runs.earlier
    if there is None or fields.applied(there) is None:
        return known, None
    kinds = {
        f"{kind}.{group}".rstrip(".").lower()
        for group, kind, *_ in map(key, manifests)
        if (group, kind) in PRUNED
    }
    number = max(known, default=0) + 1
    found = releases.found(sorted(kinds))
    if key(there) not in map(key, found):
        return known, None
    print(f"What runs has no record yet: it is recorded as release {number}.")
    known[number] = releases.record(number, found, None, outcome="deployed")
    return known, number


def _target(
    releases: Releases, known: dict[int, Release], live: Manifest | None, to: str
) -> Release:
    """The release to go back to. Raises DeployError if there is none."""
    runs = releases.live(live, known)
    listed = ", ".join(map(str, known)) or "none"
    if to:
        if not to.isdigit() or int(to) not in known:
            raise DeployError(f"TO={to} is no release that is recorded: {listed}.")
        return known[int(to)]
    if runs is None:
        good = [one for one in known.values() if one.outcome == "deployed"]
        number = good[-1].number if good else None
    else:
        number = runs.earlier
    if number is None or number not in known:
        raise DeployError(
            "There is no earlier release to go back to (recorded: "
            f"{listed}). Deploy the commit that was there before: git checkout, then make "
            "deploy with IMAGE=… of that time."
        )
    return known[number]


def _install(
    kubectl: Kubectl,
    release: Release,
    known: dict[int, Release],
    live: dict[Key, Manifest],
) -> None:
    """Make a release what runs: apply, wait, and delete what it no longer has.

    Raises DeployError; then nothing has been deleted, and pods that served do so still.
    """
    manifests = release.manifests
    deployments = of_kind(manifests, "Deployment")
    fields.take_over(kubectl, list(live.values()))
    _apply(kubectl, [one for one in manifests if one not in deployments])
    for deployment in deployments:
        there = live.get(key(deployment))
        if preflight.has_other_selector(deployment, live):
            _let_go(kubectl, deployment)
            _begin(kubectl, manifests, deployment, there)
        elif there is None:
            _begin(kubectl, manifests, deployment, None)
    _apply(kubectl, deployments)
    for deployment in deployments:
        try:
            wait(kubectl, deployment, least_replicas(manifests, deployment) or 1)
        except RolloutError as error:
            said = explain(kubectl, deployment)
            raise DeployError(
                f"{said}\nRelease {release.number} does not get ready. {error} Pods that were "
                "ready before serve on."
            ) from None
    prune(kubectl, known.values(), manifests)


def _let_go(kubectl: Kubectl, deployment: Manifest) -> None:
    """Delete a Deployment and leave its pods: the next one takes them over by their labels.

    Its selector can never change, and those of template 0.3 did not name the component.
    """
    which = key(deployment)
    where = ("deployments.apps", which.name, "--namespace", which.namespace)
    print(f"{which}: its selector changes, so it is made anew; its pods serve on.")
    kubectl.run("delete", *where, "--cascade=orphan", "--wait=false")
    for _ in range(60):
        if not kubectl.items(*where):
            return
        time.sleep(1)
    raise DeployError(f"{which} is not deleted after a minute: kubectl describe says why.")


def _begin(
    kubectl: Kubectl,
    manifests: list[Manifest],
    deployment: Manifest,
    before: Manifest | None,
) -> None:
    """Make a Deployment that an autoscaler will scale with as many pods as there should be.

    Without a number it would begin with one. The number is handed to another manager, so
    that the next apply, which states none, leaves it.
    """
    least = least_replicas(manifests, deployment) or 1
    replicas = max(least, before["spec"].get("replicas", 1) if before else 1)
    if "replicas" in deployment["spec"]:
        return
    spec = deployment["spec"] | {"replicas": replicas}
    kubectl.apply([deployment | {"spec": spec}])
    only = {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "metadata": {
            name: deployment["metadata"][name] for name in ("name", "namespace")
        },
        "spec": {"replicas": replicas},
    }
    # Validated as a patch of what is there: alone it would be no Deployment.
    kubectl.apply([only], "--field-manager", FIRST_REPLICAS, "--validate=false")


def _apply(kubectl: Kubectl, manifests: list[Manifest]) -> None:
    if manifests:
        print(kubectl.apply(manifests), end="", flush=True)


def _live(kubectl: Kubectl, deployment: Manifest) -> Manifest | None:
    which = key(deployment)
    found = kubectl.items(
        "deployments.apps", which.name, "--namespace", which.namespace
    )
    return found[0] if found else None


def _live_image(kubectl: Kubectl, deployment: Manifest) -> str:
    live = _live(kubectl, deployment)
    if live is None:
        raise DeployError("IMAGE=live: nothing runs there yet.")
    return image_of(live)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m deploy", description=__doc__)
    parser.add_argument("--context", default="", help="of kubectl; else the current one")
    parser.add_argument("verb", choices=["apply", "rollback", "releases", "tunnel"])
    parser.add_argument("stage", help="a directory in deploy/overlays")
    parser.add_argument("--image", default="", help="by its digest, or live: what runs")
    parser.add_argument("--to", default="", help="number of the release to go back to")
    parser.add_argument("--room", choices=["checked", "unchecked"], default="checked")
    given = parser.parse_args(arguments)
    kubectl = Kubectl(("--context", given.context) if given.context else ())
    try:
        if given.verb == "apply":
            deploy(kubectl, given.stage, given.image, given.room == "checked")
        elif given.verb == "rollback":
            rollback(kubectl, given.stage, given.to)
        elif given.verb == "releases":
            show_releases(kubectl, given.stage)
        else:
            show_tunnel(kubectl, given.stage)
    except DeployError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
