"""`make deploy`, `make rollback`, `make releases`, and the tunnel of `make smoke`."""

import argparse
import subprocess
import sys

from deploy import preflight
from deploy.fields import applied_part
from deploy.install import install
from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import (
    COMPONENT,
    OUTPUT,
    ROOT,
    Key,
    Manifest,
    check_images,
    check_stage,
    find,
    image_of,
    key,
    of_kind,
    render,
    server,
    write_kustomization,
)
from deploy.migration import name_by_content
from deploy.releases import Release, Releases, release_of

# For the pipeline, the number of the release to go back to: written right before the
# release is applied.
EARLIER = OUTPUT / "earlier"
STOPPED = dict.fromkeys(
    ("apply", "rollback"),
    "\nStopped waiting. The cluster goes on with what was applied by then: make "
    "releases ENV={0} lists it, and make rollback ENV={0} goes back.",
)


def deploy(kubectl: Kubectl, stage: str, image: str, room: bool) -> None:
    """Apply the overlay of a stage with its images, and wait until they run."""
    EARLIER.unlink(missing_ok=True)
    overlay = check_stage(stage)
    stated = render(kubectl, overlay)
    images = _live_images(kubectl, stated) if image == "live" else image.split()
    write_kustomization(stage, images, server(stated))
    manifests = render(kubectl, OUTPUT)
    check_images(manifests)
    name_by_content(manifests)
    live = preflight.check(kubectl, manifests, room)
    # A release is recorded before it is applied, and the record needs a namespace.
    kubectl.apply([x for x in of_kind(manifests, "Namespace") if key(x) not in live])
    releases = Releases(kubectl, server(manifests))
    known, earlier = _what_runs(releases, manifests, live)
    number = max(known, default=0) + 1
    release = releases.record(number, manifests, earlier, commit=_commit())
    EARLIER.write_text("" if earlier is None else str(earlier), encoding="utf-8")
    try:
        install(kubectl, release, known, live)
    except DeployError as error:
        releases.mark(number, "failed")
        way = "" if earlier is None else f"\nThe way back: make rollback ENV={stage}"
        raise DeployError(f"{error}{way}") from None
    releases.finish(number)
    print(f"{stage} runs release {number}: {' '.join(release.images)}")


def rollback(kubectl: Kubectl, stage: str, to: str) -> None:
    """Apply an earlier release again, as it was recorded, and wait until it runs."""
    deployment = server(render(kubectl, check_stage(stage)))
    releases = Releases(kubectl, deployment)
    known = releases.read()
    target = _target(known, find(kubectl, key(deployment)), to)
    # Room is not checked: the pods of that release may still be there.
    live = preflight.check(kubectl, target.manifests, room=False)
    install(kubectl, target, known, live, with_migrations=False)
    releases.finish(target.number)
    print(f"{stage} is back at release {target.number}: {' '.join(target.images)}")


def show_releases(kubectl: Kubectl, stage: str) -> None:
    """List the recorded releases of a stage, the newest last."""
    deployment = server(render(kubectl, check_stage(stage)))
    known = Releases(kubectl, deployment).read()
    runs = release_of(find(kubectl, key(deployment)), known)
    for one in known.values():
        outcome = "runs" if one == runs and one.outcome == "deployed" else one.outcome
        first, *others = one.images
        print(f"{one.number:>4}  {outcome:<8}  {one.created}  {first}")
        for other in others:
            print(f"{'':16}with {other}")
        print(f"{'':16}commit {one.commit or 'unknown'}")
    if not known:
        print("No release is recorded: make deploy makes the first.")


def show_tunnel(kubectl: Kubectl, stage: str, component: str) -> None:
    """Print the command that leads to the Service of a component, if a stage has it."""
    manifests = render(kubectl, check_stage(stage))
    namespace = server(manifests)["metadata"]["namespace"]
    for one in of_kind(manifests, "Service"):
        if one["metadata"].get("labels", {}).get(COMPONENT) == component:
            where = f"service/{one['metadata']['name']}"
            way = ("--namespace", namespace, "port-forward", where, ":http")
            print("kubectl", *kubectl.options, *way)
            return


def _what_runs(
    releases: Releases, manifests: list[Manifest], live: dict[Key, Manifest]
) -> tuple[dict[int, Release], int | None]:
    """Return the recorded releases, and the number to which a rollback will go.

    What runs without a record, as an older `make deploy` applied it, gets one.
    """
    known = releases.read()
    there = live.get(key(server(manifests)))
    runs = release_of(there, known)
    if runs:
        return known, runs.number if runs.outcome == "deployed" else runs.earlier
    if there is None or applied_part(there) is None:
        return known, None
    found = releases.find_unrecorded(manifests)
    if key(there) not in map(key, found):
        return known, None
    number = max(known, default=0) + 1
    print(f"What runs has no record yet: it becomes release {number}.")
    known[number] = releases.record(number, found, None, outcome="deployed")
    return known, number


def _target(known: dict[int, Release], live: Manifest | None, to: str) -> Release:
    """Return the release to go back to. Raises DeployError if there is none."""
    recorded = ", ".join(map(str, known)) or "none"
    if to and (not to.isdigit() or int(to) not in known):
        raise DeployError(f"TO={to} is not recorded; these releases are: {recorded}.")
    if to:
        return known[int(to)]
    runs = release_of(live, known)
    good = [one.number for one in known.values() if one.outcome == "deployed"]
    number = runs.earlier if runs else max(good, default=None)
    if number is None or number not in known:
        raise DeployError(
            f"There is no earlier release to go back to; recorded: {recorded}. Check "
            "out the commit that was there before, then make deploy with its IMAGE=…"
        )
    return known[number]


def _live_images(kubectl: Kubectl, manifests: list[Manifest]) -> list[str]:
    """Return the images that run, that of the server first. Raises DeployError."""
    if (live := find(kubectl, key(server(manifests)))) is None:
        raise DeployError("IMAGE=live: nothing runs there yet.")
    found = (find(kubectl, key(one)) for one in of_kind(manifests, "Deployment"))
    others = {image_of(one) for one in found if one is not None} - {image_of(live)}
    return [image_of(live), *sorted(others)]


def _commit() -> str:
    """Return the commit of the working tree, for the record; nothing without Git."""
    command = "git describe --always --abbrev=40 --dirty --exclude *".split()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def main() -> int:
    """Run the given verb, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m deploy", description=__doc__)
    parser.add_argument("verb", choices=["apply", "rollback", "releases", "tunnel"])
    parser.add_argument("stage", help="a directory in deploy/overlays")
    parser.add_argument("--context", help="of kubectl; else the current one")
    parser.add_argument(
        "--image", default="", help="by digests, the server's first; or live: what runs"
    )
    parser.add_argument("--component", choices=["server", "demo"], default="server")
    parser.add_argument("--to", default="", help="number of the release to go back to")
    parser.add_argument("--room", choices=["checked", "unchecked"], default="checked")
    given = parser.parse_args()
    kubectl = Kubectl(("--context", given.context) if given.context else ())
    try:
        if given.verb == "apply":
            deploy(kubectl, given.stage, given.image, given.room == "checked")
        elif given.verb == "rollback":
            rollback(kubectl, given.stage, given.to)
        elif given.verb == "releases":
            show_releases(kubectl, given.stage)
        else:
            show_tunnel(kubectl, given.stage, given.component)
    except DeployError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(STOPPED.get(given.verb, "").format(given.stage), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
