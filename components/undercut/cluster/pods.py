"""What Kubernetes is asked for, for each step of a pipeline; one call at the end of a pipeline's definition.

Everything here is either constant, or comes out of the step ``allocate``, so that the run's form decides.
KFP's launcher, and with it every step, runs under one ServiceAccount a run; what it may do is in
``manifests/runs``. On a laptop (``undercut run``) nothing of this applies.
"""

from collections.abc import Mapping

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_context
from kfp.dsl.pipeline_channel import PipelineParameterChannel

from undercut.cluster.options import CompileOptions, current
from undercut.images import TRAIN_IMAGE, USER

# Steps that launch a training, which may be a TrainJob of its own; a search always trains in its step.
LAUNCHING = ("pretrain", "transfer", "finetune", "compress")
TRAINING = (*LAUNCHING, "tune")
HOME = "/tmp/undercut"  # the only place that a step writes to beside its outputs
DOWNLOADS = f"{HOME}/downloads"
CONFIG_MAP = "undercut"
SETTINGS = (
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "UNDERCUT_CHECKPOINTS",
    "UNDERCUT_RELEASES",
    "MLFLOW_TRACKING_URI",
)
# KFP's own Secret: its launcher reads it through the API, steps get nothing of it unless they ask.
STORE_SECRET = "mlpipeline-minio-artifact"
STORE_KEYS = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
USER_KEYS = (
    "HF_TOKEN",
    "UNDERCUT_SQL_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
# Read by Kubernetes at the pod's start: a placeholder among the parameters would enter the cache key.
FIELDS = {
    "UNDERCUT_RUN_ID": "metadata.labels['pipeline/runid']",
    "UNDERCUT_NODE": "metadata.annotations['workflows.argoproj.io/node-name']",
    "UNDERCUT_POD": "metadata.name",
    "UNDERCUT_POD_UID": "metadata.uid",
    "UNDERCUT_NAMESPACE": "metadata.namespace",
}
STAY = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


def furnish(allocation: Mapping[str, PipelineParameterChannel]) -> None:
    """Tell Kubernetes what every step of the pipeline now being defined needs.

    Args:
        allocation: the outputs of ``allocate``.
    """
    options = current()
    pipeline = pipeline_context.Pipeline.get_default_pipeline()
    assert pipeline is not None, "furnish is called inside a pipeline's definition"
    if options is None:
        return
    for task in pipeline.tasks.values():
        stage = task.component_spec.name
        _any_step(task, stage, options)
        if stage == "allocate":
            # Its result depends on --spot, and KFP's cache key holds no environment: a GPU would be held beside
            # a TrainJob that has its own, or be missing where the step trains.
            task.set_caching_options(False)
            task.set_cpu_request("100m").set_cpu_limit("1").set_memory_request("512Mi").set_memory_limit("1Gi")
            continue
        _sized(task, allocation)
        kubernetes.use_secret_as_env(task, allocation["secret"], {key: key for key in USER_KEYS}, optional=True)
        if stage in TRAINING:
            _training_step(task, allocation, "launcher_" if stage in LAUNCHING else "", options)


def _any_step(task: dsl.PipelineTask, stage: str, options: CompileOptions) -> None:
    image = options.image or TRAIN_IMAGE
    task.set_container_image(image)
    constants = {"UNDERCUT_HOME": HOME, "UNDERCUT_IMAGE": image, "UNDERCUT_SPOT": "1" if options.spot else ""}
    # For the TrainJob that a step may launch: its labels, and when it is given up.
    constants |= {"UNDERCUT_TEAM": options.team, "UNDERCUT_RECIPE": options.recipe}
    constants["UNDERCUT_LONGEST_HOURS"] = str(options.longest_hours)
    for variable, value in constants.items():
        if value:
            task.set_env_variable(variable, value)
    if options.retries:
        # Argo counts backoff_max_duration from the first start: with less, a long step is not started again.
        longest = f"{options.longest_hours * 3600}s"
        task.set_retry(options.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration=longest)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.use_config_map_as_env(task, CONFIG_MAP, {key: key for key in SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, STORE_SECRET, STORE_KEYS, optional=True)
    for variable, path in FIELDS.items():
        kubernetes.use_field_path_as_env(task, variable, path)
    labels = {"stage": stage, "team": options.team, "recipe": options.recipe}
    for name, value in labels.items():
        if value:
            kubernetes.add_pod_label(task, f"undercut/{name}", value)
    if options.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [options.image_pull_secret])


def _sized(task: dsl.PipelineTask, allocation: Mapping[str, PipelineParameterChannel]) -> None:
    """Request what is the limit too: a step that is priced must not share its cores."""
    cpu, memory = allocation["cpu"], allocation["memory"]
    task.register_pipeline_channels([cpu, memory])  # KFP does not hand them into a loop by itself
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)


def _training_step(
    task: dsl.PipelineTask, allocation: Mapping[str, PipelineParameterChannel], prefix: str, options: CompileOptions
) -> None:
    kind, count = allocation[f"{prefix}accelerator"], allocation[f"{prefix}accelerator_count"]
    task.register_pipeline_channels([kind, count])
    task.set_accelerator_type(kind).set_accelerator_limit(count)  # an empty type asks for none
    kubernetes.add_node_selector_json(task, allocation[f"{prefix}node_selector"])
    kubernetes.add_toleration_json(task, allocation[f"{prefix}tolerations"])
    kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=options.shared_memory)
    for name, value in STAY.items():
        kubernetes.add_pod_annotation(task, name, value)
    if options.cache_pvc:
        kubernetes.mount_pvc(task, pvc_name=options.cache_pvc, mount_path=DOWNLOADS)
