"""The page as KFP's UI shows it: in ``<iframe srcdoc sandbox="allow-scripts">``, drawn by a real browser."""

import hashlib
import html
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.report.conftest import Page

pytestmark = pytest.mark.slow

ATTEMPTS = 4
FRAME = """<!doctype html><style>body{{margin:0}}iframe{{border:0;width:100vw;height:2400px;display:block}}</style>
<iframe srcdoc="{content}" sandbox="{sandbox}"></iframe>"""


def draw(page: Path, folder: Path) -> tuple[str, str]:
    """Return the digest of what the browser draws of a page, and what it said on its console."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    picture = folder / f"{page.stem}.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder}/profile", f"--screenshot={picture}", "--window-size=1200,2400"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=3000", page.as_uri()], capture_output=True, text=True, check=True, timeout=90
    )
    said = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    with Image.open(picture) as image:  # the window's last rows may not be drawn yet when the picture is taken
        return hashlib.sha256(image.convert("RGB").crop((0, 0, 1200, 2000)).tobytes()).hexdigest(), said


def test_the_report_looks_the_same_inside_the_sandbox(
    passed: tuple[dict[str, Any], Page], tmp_path: Path, made: Any
) -> None:
    source = made.root / "passed.html"
    content = html.escape(source.read_text(encoding="utf-8"))
    framed, broken = tmp_path / "framed.html", tmp_path / "broken.html"
    framed.write_text(FRAME.format(content=content, sandbox="allow-scripts"), encoding="utf-8")
    broken.write_text(FRAME.format(content=html.escape("<p>not it"), sandbox="allow-scripts"), encoding="utf-8")
    direct, _ = draw(source, tmp_path)
    # The frame is another process: on a busy machine a picture may be taken before it has painted.
    pictures = [draw(framed, tmp_path) for _ in range(ATTEMPTS)]
    assert direct in [picture for picture, _ in pictures]
    assert all(said == "" for _, said in pictures)
    assert draw(broken, tmp_path)[0] != direct
