"""Who owns which field of an object, as Kubernetes' server-side apply keeps it.

Fields are paths as in `managedFields`: `f:` a key of a mapping, `k:` the item of a list
with these keys, `.` the item itself. Lists without keys and selectors are one field.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]
Managers = dict[tuple[str, str, str], set[Path]]  # by name, operation, subresource

# By what the items of a list are told apart.
KEYS = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
ATOMIC = {
    "labelSelector",
    "namespaceSelector",
    "nodeSelector",
    "podSelector",
    "selector",
}
NOBODYS = {
    ("f:apiVersion",),
    ("f:kind",),
    ("f:status",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "creationTimestamp generation managedFields name namespace "
            "resourceVersion uid"
        ).split()
    ),
}


def _keys(name: str, items: list[Any], kind: str) -> tuple[str, ...]:
    """The keys of the items of a list; none if the list is one field."""
    if name == "ports" and items and isinstance(items[0], dict):
        if "containerPort" in items[0]:
            return ("containerPort", "protocol")
        return ("port", "protocol") if kind == "Service" else ()
    return KEYS.get(name, ())


def _item(item: Object, keys: tuple[str, ...]) -> str:
    named = {
        key: item.get(key, "TCP" if key == "protocol" else None) for key in sorted(keys)
    }
    return "k:" + json.dumps(named, separators=(",", ":"))


def fields(thing: Object) -> dict[Path, Any]:
    """Every field of an object that somebody may own, with its value."""
    return {
        path: value
        for path, value in _fields(thing, (), thing["kind"])
        if path[:1] not in NOBODYS and path[:2] not in NOBODYS
    }


def _fields(value: Any, path: Path, kind: str) -> Iterator[tuple[Path, Any]]:
    name = path[-1].removeprefix("f:") if path else ""
    if isinstance(value, dict) and value and name not in ATOMIC:
        for key, part in value.items():
            yield from _fields(part, (*path, f"f:{key}"), kind)
    elif isinstance(value, list) and (keys := _keys(name, value, kind)):
        for item in value:
            inner = (*path, _item(item, keys))
            yield (*inner, "."), None
            yield from _fields(item, inner, kind)
    else:
        yield path, value


def apply(
    live: Object | None, stated: Object, managers: Managers, manager: str
) -> Object:
    """Server-side apply, forced; returns the new object and notes who owns what."""
    after: Object = _merge(deepcopy(live or {}), stated, "", stated["kind"])
    mine, before = fields(stated), fields(live) if live else {}
    who = (manager, "Apply", "")
    for other, owned in managers.items():
        if other != who:
            owned -= {
                path for path in mine if path in before and before[path] != mine[path]
            }
    dropped = managers.get(who, set()) - set(mine)
    managers[who] = set(mine)
    # Whole items first: without its key, an item could no longer be told.
    for path in sorted(dropped, key=lambda path: (path[-1] != ".", -len(path))):
        inside = path[:-1] if path[-1] == "." else path
        if not any(
            other[: len(inside)] == inside
            for owned in managers.values()
            for other in owned
        ):
            _remove(after, path)
    return after


def update(
    before: Object, after: Object, managers: Managers, who: tuple[str, str]
) -> None:
    """Note who owns what after any other change.

    Who is the name of a manager and a subresource, which may be empty.
    """
    old, new = fields(before), fields(after)
    changed = {path for path in new if path not in old or old[path] != new[path]}
    gone = set(old) - set(new)
    for owned in managers.values():
        owned -= changed | gone
    if changed:
        managers.setdefault((who[0], "Update", who[1]), set()).update(changed)


def dump(managers: Managers, version: str) -> list[Object]:
    """The `managedFields` of an object."""
    entries = []
    for (manager, operation, subresource), paths in managers.items():
        tree: Object = {}
        for path in sorted(paths):
            part = tree
            for step in path:
                part = part.setdefault(step, {})
        entry = {"manager": manager, "operation": operation, "apiVersion": version}
        entry |= {"subresource": subresource} if subresource else {}
        entries.append(entry | {"fieldsType": "FieldsV1", "fieldsV1": tree})
    return [entry for entry in entries if entry["fieldsV1"]]


def load(entries: list[Object]) -> Managers:
    """The same, read."""
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): set(
            _paths(entry["fieldsV1"], ())
        )
        for entry in entries
    }


def _paths(tree: Object, path: Path) -> Iterator[Path]:
    if not tree:
        yield path
    for step, part in tree.items():
        yield from _paths(part, (*path, step))


def _merge(live: Any, stated: Any, name: str, kind: str) -> Any:
    if isinstance(stated, dict) and isinstance(live, dict) and name not in ATOMIC:
        merged = {
            key: _merge(live[key], part, key, kind) if key in live else part
            for key, part in stated.items()
        }
        return live | merged
    if isinstance(stated, list) and (keys := _keys(name, stated, kind)):
        there = {_item(item, keys): item for item in live}
        items = {
            name: _merge(there.pop(name, {}), item, "", kind)
            for item in stated
            if (name := _item(item, keys))
        }
        return [*items.values(), *there.values()]
    return deepcopy(stated)


def _remove(thing: Object, path: Path) -> None:
    """Remove a field, and what is empty without it."""
    parents: list[tuple[Any, Any]] = []
    part: Any = thing
    for step in path:
        if step == ".":
            break
        place: Any = step.removeprefix("f:")
        if step.startswith("k:"):
            keys = tuple(json.loads(step[2:]))
            found = [n for n, item in enumerate(part) if _item(item, keys) == step]
            place = found[0] if found else None
        if place is None or (isinstance(part, dict) and place not in part):
            return
        parents.append((part, place))
        part = part[place]
    whole, place = parents.pop()
    del whole[place]
    while parents and not whole:
        whole, place = parents.pop()
        del whole[place]
