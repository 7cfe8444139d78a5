#!/usr/bin/env bash
# Delete the kind cluster and everything on it. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=manifests/kind/settings.sh
. manifests/kind/settings.sh
need kind
kind delete cluster --name "$CLUSTER"
