# Sourced by the other scripts of this folder.
# shellcheck shell=bash
export CLUSTER=undercut
export CONTEXT=kind-$CLUSTER
export KFP_PORT=${KFP_PORT:-8888}
export S3_PORT=${S3_PORT:-9000}
export RETRY_SECONDS=${RETRY_SECONDS:-15}
LOGS=${LOGS:-.undercut/kind-logs}
# The overlay for kind names these two.
export TRAIN_IMAGE=undercut-train-python:0.1.0
export SERVE_IMAGE=undercut-serve-python:0.1.0

need() {  # PROGRAM...
    for program in "$@"; do
        command -v "$program" > /dev/null || { echo "$program is needed and not found" >&2; exit 2; }
    done
}

k() {
    kubectl --context "$CONTEXT" "$@"
}

# What a person would look at first, in one folder. Never the contents of a Secret.
collect_logs() {
    echo "collecting logs into $LOGS" >&2
    mkdir -p "$LOGS"
    k get nodes,pods,jobs,pvc,workflows.argoproj.io,trainjobs.trainer.kubeflow.org,inferenceservices.serving.kserve.io \
        --all-namespaces --output wide > "$LOGS/objects.txt" 2>&1 || true
    k get events --all-namespaces --sort-by=.lastTimestamp > "$LOGS/events.txt" 2>&1 || true
    for namespace in undercut kubeflow kubeflow-system kserve cert-manager; do
        k describe pods --namespace "$namespace" > "$LOGS/$namespace-pods.txt" 2>&1 || true
    done
    kind export logs "$LOGS/nodes" --name "$CLUSTER" > "$LOGS/export.txt" 2>&1 || true
}
