"""Take over what kubectl's other verbs wrote, so that an apply removes it.

The API server notes in `managedFields` which manager wrote which field. An apply
removes what its manager owns and no longer states, unless another manager owns it, too:
a variable that `kubectl edit`, `set env` or `rollout undo` wrote would stay for ever.
So what they own is first given to the manager that applies. Kubernetes does the same on
the way from client-side to server-side apply (k8s.io/client-go/util/csaupgrade).
"""

import json
from typing import Any

from deploy.kubectl import MANAGER, Kubectl
from deploy.manifests import Manifest, key

Tree = dict[str, Any]

# It belongs to the autoscaler, whoever else has written it.
REPLICAS = ("f:spec", "f:replicas")


def take_over(kubectl: Kubectl, live: list[Manifest]) -> None:
    """Give the manager that applies all that kubectl's other verbs own."""
    for manifest in live:
        metadata = manifest["metadata"]
        others = [x for x in metadata.get("managedFields", []) if _is_other_verb(x)]
        # Administrators of the cluster label a namespace, too.
        if not others or manifest["kind"] == "Namespace":
            continue
        entries = [x for x in metadata["managedFields"] if x not in others]
        patch = [
            {
                "op": "replace",
                "path": "/metadata/managedFields",
                "value": _merge(entries, others),
            },
            # The patch fails if somebody else has written meanwhile.
            {
                "op": "replace",
                "path": "/metadata/resourceVersion",
                "value": metadata["resourceVersion"],
            },
        ]
        which = key(manifest)
        change = ("--type", "json", "--patch", json.dumps(patch))
        kubectl.run("patch", *which.words, *change)
        writers = ", ".join(sorted({x["manager"] for x in others}))
        print(f"{which}: what {writers} wrote by hand is removed: it is not in Git.")


def applied_part(manifest: Manifest) -> Manifest | None:
    """Return the part of a live object that was applied; None if nothing was.

    This is what the manifest said, without what the cluster or others have added.
    """
    for entry in manifest["metadata"].get("managedFields", []):
        if _is_apply(entry):
            part: Manifest = _project(manifest, entry["fieldsV1"])
            which = key(manifest)
            part |= {"apiVersion": manifest["apiVersion"], "kind": which.kind}
            part.setdefault("metadata", {})["name"] = which.name
            if which.namespace:
                part["metadata"]["namespace"] = which.namespace
            return part
    return None


def _is_apply(entry: Tree) -> bool:
    return (entry["manager"], entry["operation"]) == (MANAGER, "Apply")


def _is_other_verb(entry: Tree) -> bool:
    """Return whether a verb of kubectl that is no apply wrote it; `scale` may."""
    return (
        entry["manager"].startswith("kubectl")
        and entry["operation"] == "Update"
        and not entry.get("subresource")
    )


def _merge(entries: list[Tree], others: list[Tree]) -> list[Tree]:
    """Return the entries, with the fields of the others added to that of the apply."""
    mine = [entry for entry in entries if _is_apply(entry)]
    base = mine[0] if mine else others[0] | {"manager": MANAGER, "operation": "Apply"}
    fields = base["fieldsV1"]
    for other in others:
        if other["apiVersion"] == base["apiVersion"]:
            fields = _union(fields, _without(other["fieldsV1"], REPLICAS))
    rest = [entry for entry in entries if not _is_apply(entry)]
    return [*rest, base | {"fieldsV1": fields}]


def _union(one: Tree, other: Tree) -> Tree:
    return one | {name: _union(one.get(name, {}), part) for name, part in other.items()}


def _without(fields: Tree, path: tuple[str, ...]) -> Tree:
    first, *rest = path
    if first not in fields:
        return fields
    left = {name: part for name, part in fields.items() if name != first}
    inner = _without(fields[first], tuple(rest)) if rest else {}
    return left | ({first: inner} if inner else {})


def _project(value: Any, fields: Tree) -> Any:
    """Return the part of a value that the fields name.

    `f:` is a key of a mapping, `k:` the item of a list with these keys, `v:` this item.
    """
    inner = {name: part for name, part in fields.items() if name != "."}
    if not inner:
        return value
    if isinstance(value, dict):
        return {
            name.removeprefix("f:"): _project(value[name.removeprefix("f:")], part)
            for name, part in inner.items()
            if name.removeprefix("f:") in value
        }
    parts = []
    for item in value:
        for name, part in inner.items():
            if name.startswith("k:") and _has_keys(item, json.loads(name[2:])):
                parts.append(_project(item, part))
            elif name.startswith("v:") and json.loads(name[2:]) == item:
                parts.append(item)
    return parts


def _has_keys(item: Any, keys: Tree) -> bool:
    return isinstance(item, dict) and all(
        item.get(name) == value for name, value in keys.items()
    )
