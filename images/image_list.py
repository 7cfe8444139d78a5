"""Print every image that a full installation pulls, for mirrors and clusters without internet.

    python images/image_list.py > images/IMAGES.txt

They come from three places: ``upstream.yaml`` (what KFP, Trainer, JobSet and KServe pull at the versions that
``manifests/`` pins), the manifests of this repository, and the images that it builds itself.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from undercut.images import SERVE_IMAGE, TRAIN_IMAGE

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"(github\.com/[\w.-]+/[\w.-]+)/\S*?(?:[?&]ref=|/releases/download/)([\w.+-]+)")
OWN = {name.rpartition(":")[0] for name in (TRAIN_IMAGE, SERVE_IMAGE)}
HEAD = "# Every image that a full installation pulls. Written by `make image-list`; change its sources, not this file."


def upstream() -> list[dict[str, Any]]:
    """Return the parts of ``upstream.yaml``."""
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "images" / "upstream.yaml").read_text("utf-8"))
    return found


def pins() -> dict[str, set[str]]:
    """Return each upstream repository that the manifests name, with the versions that they name it at."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "manifests").rglob("*.yaml")):
        for repository, version in PIN.findall(path.read_text("utf-8")):
            found.setdefault(repository, set()).add(version)
    return found


def base_image() -> str:
    """Return what the Dockerfiles build on."""
    text = (ROOT / "images" / "train" / "Dockerfile").read_text("utf-8")
    return re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)[0]


def manifest_images() -> set[str]:
    """Return what the manifests run, as their kustomizations name it; Undercut's own images left out."""
    named, replaced = set(), {}
    for path in sorted((ROOT / "manifests").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            named |= set(_values(document, "image"))
            for entry in (document or {}).get("images", []) if path.name == "kustomization.yaml" else []:
                mark = f"@{entry['digest']}" if "digest" in entry else f":{entry['newTag']}"
                replaced[entry["name"]] = entry.get("newName", entry["name"]) + mark
    bare = {name.partition(":")[0] for name in named} - OWN
    return {replaced.get(name) or next(n for n in named if n.partition(":")[0] == name) for name in bare}


def _values(node: Any, key: str) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get(key), str):
            yield node[key]
        for value in node.values():
            yield from _values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, key)


def lines() -> list[str]:
    """Return the list, with a comment line before each part."""
    found = [HEAD, "# Built by `make images`", TRAIN_IMAGE, SERVE_IMAGE, "# What they are built on", base_image()]
    if images := sorted(manifest_images()):
        found += ["# manifests/", *images]
    for part in upstream():
        found += [f"# {part['part']} {part['version']}", *part["images"]]
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
