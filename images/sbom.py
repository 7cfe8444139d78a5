"""Write a bill of materials (CycloneDX 1.6, JSON) of each image: its Python packages and its Debian packages.

    python images/sbom.py undercut-train-python:0.1.0 undercut-serve-python:0.1.0    (or `make sbom`)

CycloneDX's own tool reads the image's environment from inside a container without network; it is mounted, not
installed there. What neither pip nor dpkg knows (Python itself, where the base image compiled it) is not listed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

TOOL = "cyclonedx-bom==7.5.0"
FOLDER = Path("sbom")
READ = """
import sys
sys.path.append("/sbom-tool")
from cyclonedx_py._internal.cli import run
sys.exit(run(argv=["environment", "--output-reproducible", "--spec-version", "1.6", "/opt/venv/bin/python"]))
"""
DEBIAN = "dpkg-query --show --showformat '${Package}\\t${Version}\\t${Architecture}\\n'"


def inside(image: str, command: list[str], tool: str) -> str:
    """Return what a command prints in a container of the image."""
    options = ["--rm", "--network", "none", "--volume", f"{tool}:/sbom-tool:ro", "--entrypoint", command[0]]
    run = ["docker", "run", *options, image, *command[1:]]
    return subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout


def debian_component(line: str) -> dict[str, Any]:
    """Return the component of one line of dpkg-query (https://github.com/package-url/purl-spec, type deb)."""
    name, version, architecture = line.split("\t")
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def bill(image: str, tool: str) -> dict[str, Any]:
    """Return an image's bill of materials."""
    content: dict[str, Any] = json.loads(inside(image, ["python", "-c", READ], tool))
    packages = inside(image, ["sh", "-c", DEBIAN], tool).splitlines()
    content["components"] += [debian_component(line) for line in packages]
    name, _, version = image.rpartition(":")
    content["metadata"]["component"] = {"type": "container", "name": name, "version": version, "bom-ref": image}
    return content


def main(images: list[str]) -> None:
    """Write ``sbom/<image>.cdx.json`` for each image."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as tool:
        Path(tool).chmod(0o755)
        install = [
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
            tool,
            "--constraint",
            "constraints.txt",
            TOOL,
        ]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True)
        for image in images:
            content = bill(image, tool)
            path = FOLDER / f"{image.rpartition('/')[2].replace(':', '-')}.cdx.json"
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            print(f"{path}: {len(content['components'])} components")


if __name__ == "__main__":
    main(sys.argv[1:])
