#!/usr/bin/env bash
# Make a kind cluster called undercut, with KFP, Trainer and JobSet, KServe, and Undercut's manifests on it.
# Safe to run again: each part is made where it is missing and brought up to date where it is there.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=manifests/kind/settings.sh
. manifests/kind/settings.sh
need docker kind kubectl

apply() {  # FOLDER
    echo "== $1"
    # Kinds arrive a moment after their definitions: so a few tries.
    for try in 1 2 3 4 5; do
        if k apply --server-side --force-conflicts --kustomize "manifests/$1"; then
            return
        fi
        echo "try $try of 5 failed; again in $RETRY_SECONDS s" >&2
        sleep "$RETRY_SECONDS"
    done
    return 1
}

ready() {  # NAMESPACE TIMEOUT
    k wait --namespace "$1" --for=condition=Available deployment --all --timeout="$2"
}

for image in "$TRAIN_IMAGE" "$SERVE_IMAGE"; do
    docker image inspect "$image" > /dev/null 2>&1 || { echo "no image $image: make images" >&2; exit 2; }
done
if ! kind get clusters | grep -qx "$CLUSTER"; then
    kind create cluster --config manifests/kind/cluster.yaml --wait 180s
fi
trap 'collect_logs' ERR
kind load docker-image "$TRAIN_IMAGE" "$SERVE_IMAGE" --name "$CLUSTER"

apply kind/cert-manager
ready cert-manager 300s
apply kind/kfp-cluster
k wait --for=condition=established --timeout=60s crd/workflows.argoproj.io
apply kind/kfp
apply kind/trainer
apply kind/kserve
ready kubeflow-system 300s
ready kserve 300s
ready kubeflow 900s

manifests/secrets/make.sh kubeflow
k create namespace undercut --dry-run=client --output yaml | k apply --server-side --force-conflicts --filename -
apply secrets/platform
k apply --server-side --force-conflicts --kustomize manifests/secrets/runs --namespace kubeflow
apply overlays/kind
k rollout status statefulset/postgres --namespace undercut --timeout=300s
k rollout status deployment/mlflow --namespace undercut --timeout=600s
echo "ready. kubectl --context $CONTEXT -n kubeflow port-forward svc/ml-pipeline-ui 8080:80, then http://localhost:8080"
echo "make kind-test runs a component and the lifecycle"
