#!/usr/bin/env bash
# On the cluster of up.sh: one component alone, then the lifecycle. Fails with the run that fails; logs are collected.
# Safe to run again: a run is a new run, and the pipelines' versions are named by their content.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=manifests/kind/settings.sh
. manifests/kind/settings.sh
need kind kubectl
kind get clusters | grep -qx "$CLUSTER" || { echo "no cluster $CLUSTER: make kind-up" >&2; exit 2; }

trap 'collect_logs' ERR
forwards=()
trap 'kill "${forwards[@]}" 2> /dev/null || true' EXIT
forward() {  # SERVICE LOCAL_PORT PORT PATH
    k port-forward --namespace kubeflow "service/$1" "$2:$3" > /dev/null &
    forwards+=("$!")
    for _ in $(seq 60); do
        # Any answer will do: SeaweedFS refuses who has no keys.
        curl --silent --output /dev/null --max-time 2 "http://localhost:$2$4" && return
        sleep 1
    done
    echo "$1 does not answer on port $2" >&2
    return 1
}
forward ml-pipeline "$KFP_PORT" 8888 /apis/v2beta1/healthz
forward seaweedfs "$S3_PORT" 9000 /

# Pods read no file of this machine, so the demo's data goes to the cluster's store.
data=s3://mlpipeline/private/kubeflow/undercut/data
.venv/bin/python manifests/kind/upload.py "http://localhost:$S3_PORT" manifests/secrets/platform/mlflow-s3.env "$data" \
    pipelines/data/customer_messages.csv pipelines/data/customer_messages_unlabelled.txt

export KF_PIPELINES_ENDPOINT=http://localhost:$KFP_PORT
undercut=.venv/bin/undercut
"$undercut" submit manifests/kind/one_component.py --source "$data/customer_messages.csv" --wait
"$undercut" submit pipelines/lifecycle.py --recipe pipelines/recipes/customer_service.yaml --wait \
    --source "$data/customer_messages.csv" --unlabelled_source "$data/customer_messages_unlabelled.txt" \
    --deploy_settings '{"target": "kserve"}' --resources '{"cpu": "1", "memory": "3Gi"}'
"$undercut" runs
k get inferenceservices.serving.kserve.io --namespace kubeflow
