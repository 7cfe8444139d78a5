"""The list of images for mirrors is current with what the project itself declares."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("image_list", ROOT / "images" / "image_list.py")
assert spec
assert spec.loader
image_list = importlib.util.module_from_spec(spec)
spec.loader.exec_module(image_list)


def test_the_list_is_current() -> None:
    written = (ROOT / "images" / "IMAGES.txt").read_text("utf-8").splitlines()
    assert written == image_list.lines(), "run make image-list"


def test_it_names_what_runs_beside_each_step() -> None:
    names = "\n".join(image_list.lines())
    for image in (
        "kfp-driver:",
        "kfp-launcher:",
        "argoexec:",
        "jobset:",
        "trainer-controller-manager:",
        "kserve-controller:",
    ):
        assert image in names


def test_it_holds_no_image_twice_and_none_without_a_version() -> None:
    images = [line for line in image_list.lines() if not line.startswith("#")]
    assert len(images) == len(set(images))
    assert all(re.search(r":[^/]+$|@sha256:[0-9a-f]{64}$", image) for image in images)


def test_its_versions_are_those_that_the_manifests_pin() -> None:
    pins = image_list.pins()
    if not pins:
        pytest.skip("no manifests name an upstream")
    listed = {part["pin"]: {part["version"]} for part in image_list.upstream()}
    assert pins == {name: listed.get(name) for name in pins}


def test_kfp_is_at_the_version_of_its_sdk() -> None:
    (version,) = re.findall(r"^kfp==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert {part["version"] for part in image_list.upstream() if part["pin"].endswith("/pipelines")} == {version}


def test_both_dockerfiles_build_on_the_same_digest() -> None:
    bases = {
        re.findall(
            r"^ARG BASE=(\S+@sha256:[0-9a-f]{64})$", (ROOT / "images" / n / "Dockerfile").read_text(), re.MULTILINE
        )[0]
        for n in ("train", "serve")
    }
    assert bases == {image_list.base_image()}
