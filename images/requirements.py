"""Print the packages that the train image installs: the project's own dependencies, one a line.

    python images/requirements.py pyproject.toml > requirements.txt

Names only: versions come from constraints.txt.
"""

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    print("\n".join(tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]["dependencies"]))
