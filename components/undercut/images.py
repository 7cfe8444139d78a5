"""The container images that steps run in; set at compile time by the environment."""

import os

TRAIN_IMAGE = os.environ.get("UNDERCUT_TRAIN_IMAGE", "undercut-train-python:0.1.0")
SERVE_IMAGE = os.environ.get("UNDERCUT_SERVE_IMAGE", "undercut-serve-python:0.1.0")
