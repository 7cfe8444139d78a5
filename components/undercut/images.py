"""The container images that steps run in, and the numeric user that they run as; set by the environment."""

import os

TRAIN_IMAGE = os.environ.get("UNDERCUT_TRAIN_IMAGE", "undercut-train-python:0.1.0")
SERVE_IMAGE = os.environ.get("UNDERCUT_SERVE_IMAGE", "undercut-serve-python:0.1.0")
# Numeric: where Pod Security is "restricted", the kubelet cannot tell a name from root.
USER = 10001
