#!/usr/bin/env bash
# Write the files that secrets/platform and secrets/runs make Secrets of. Git ignores them.
#   manifests/secrets/make.sh [NAMESPACE]     NAMESPACE: where runs are, by default kubeflow
# The password of PostgreSQL is made at random, once: a second call leaves it. The S3 keys are KFP's own, read from
# Secret mlpipeline-minio-artifact of the namespace, or S3_ACCESS_KEY and S3_SECRET_KEY where they are set.
# CONTEXT names kubectl's context, if it is not the current one.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
namespace=${1:-kubeflow}

key() {  # NAMESPACE FIELD VALUE_IF_SET
    if [ -n "$3" ]; then
        printf '%s' "$3"
    else
        kubectl ${CONTEXT:+--context "$CONTEXT"} --namespace "$1" get secret mlpipeline-minio-artifact \
            --output "jsonpath={.data.$2}" | base64 --decode
    fi
}

keys_file() {  # FILE NAMESPACE NAME_OF_ACCESS_KEY NAME_OF_SECRET_KEY
    local access secret
    access=$(key "$2" accesskey "${S3_ACCESS_KEY:-}")
    secret=$(key "$2" secretkey "${S3_SECRET_KEY:-}")
    if [ -z "$access" ] || [ -z "$secret" ]; then
        echo "Secret mlpipeline-minio-artifact of namespace $2 has no keys: is Kubeflow Pipelines installed?" >&2
        exit 1
    fi
    printf '%s=%s\n%s=%s\n' "$3" "$access" "$4" "$secret" > "$1"
}

if [ ! -s platform/mlflow-postgres.env ]; then
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    printf 'username=mlflow\ndatabase=mlflow\npassword=%s\n' "$password" > platform/mlflow-postgres.env
fi
keys_file platform/mlflow-s3.env kubeflow accesskey secretkey
keys_file runs/undercut-serving-s3.env "$namespace" AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
echo "kubectl apply -k manifests/secrets/platform"
echo "kubectl apply -k manifests/secrets/runs --namespace $namespace"
