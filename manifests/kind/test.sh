#!/usr/bin/env bash
# On the cluster of up.sh: one component alone, then the lifecycle. Fails with the run that fails; logs are collected.
# Safe to run again: a run is a new run, and the pipelines' versions are named by their content.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=manifests/kind/settings.sh
. manifests/kind/settings.sh
need kind kubectl
kind get clusters | grep -qx "$CLUSTER" || { echo "no cluster $CLUSTER: make kind-up" >&2; exit 2; }

trap 'collect_logs' ERR
k port-forward --namespace kubeflow service/ml-pipeline "$KFP_PORT:8888" > /dev/null &
forward=$!
trap 'kill "$forward" 2> /dev/null || true' EXIT
for _ in $(seq 60); do
    curl --silent --fail --max-time 2 "http://localhost:$KFP_PORT/apis/v2beta1/healthz" > /dev/null && break
    sleep 1
done

export KF_PIPELINES_ENDPOINT=http://localhost:$KFP_PORT
export UNDERCUT_TRAIN_IMAGE=$TRAIN_IMAGE UNDERCUT_SERVE_IMAGE=$SERVE_IMAGE
undercut=${UNDERCUT:-.venv/bin/undercut}
"$undercut" submit pipelines/ingest.py --recipe "${COMPONENT_RECIPE:-pipelines/recipes/ingest.yaml}" --wait
"$undercut" submit pipelines/lifecycle.py --recipe "${RECIPE:-pipelines/recipes/kind.yaml}" --wait
"$undercut" runs
k get inferenceservices.serving.kserve.io --namespace kubeflow
