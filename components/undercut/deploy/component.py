"""KFP face of deploy."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def deploy(
    chosen: dsl.Input[dsl.Model],
    selection: dsl.Input[dsl.Artifact],
    data: dsl.Input[dsl.Dataset],
    deployment: dsl.Output[dsl.Artifact],
    model_name: str,
    target: str = "local",
    margin: float = 0.01,
    minimum_saving: float = 0.05,
    seed: int = 0,
    namespace: str = "",
    mode: str = "Standard",
    runtime: str = "undercut-serve",
    service_account: str = "undercut-serving",
    min_replicas: int = 1,
    max_replicas: int = 4,
    scale_metric: str = "",
    scale_target: int = 0,
    cpu: str = "1",
    memory: str = "1Gi",
    accelerator: str = "",
    accelerator_count: int = 0,
    canary_percent: int = 50,
    split: str = "exact",
    canary_seconds: int = 60,
    ready_seconds: int = 600,
    load_check_seconds: int = 10,
    load_check_clients: int = 8,
    maximum_p95_ms: float = 1000.0,
    maximum_error_share: float = 0.0,
    usd_per_hour: float = 0.0,
    teacher: dsl.Input[dsl.Model] = None,
    settings: dict = {},  # noqa: B006
):
    """Register the chosen model, test it over HTTP, and make it champion if it is better or cheaper.

    Args:
        chosen: The selection's model.
        selection: Why it was chosen, with every candidate's figures.
        data: The dataset; its test rows decide between challenger and champion.
        deployment: Receives what was done, and why.
        model_name: Name in the model registry and in the endpoints' paths.
        target: Where to deploy; local is a tested entry in MLflow's registry, kserve an InferenceService as well.
        margin: Accuracy that a cheaper challenger may lose, lower end of the interval.
        minimum_saving: Share by which a challenger must be cheaper to count as cheaper.
        seed: Seed of the bootstrap.
        namespace: Of the InferenceService; empty is the pod's own. This and what follows is for kserve.
        mode: KServe's deployment mode, Standard or Knative.
        runtime: The ServingRuntime that loads model folders.
        service_account: Whose Secret KServe's storage initializer reads S3 with.
        min_replicas: Pods that always run.
        max_replicas: Pods at most.
        scale_metric: What the autoscaler looks at (Standard: cpu, memory; Knative: concurrency, rps); empty is KServe's.
        scale_target: The metric's target value; 0 is KServe's.
        cpu: A pod's CPU, for example 500m or 2.
        memory: A pod's memory, for example 1Gi.
        accelerator: Resource name of a pod's accelerator, for example nvidia.com/gpu; empty for none.
        accelerator_count: Accelerators a pod.
        canary_percent: Share of the requests that the canary is wished to get, 0 to 99; 0 tests it unseen.
        split: exact refuses replica counts that miss the wish by more than five points; raise runs more meanwhile.
        canary_seconds: How long a tested canary takes its share before it is promoted.
        ready_seconds: How long pods may take to become ready.
        load_check_seconds: How long the load check sends requests.
        load_check_clients: How many requests it keeps in flight.
        maximum_p95_ms: 95th percentile of the load check's latency at most, in milliseconds.
        maximum_error_share: Share of the load check's requests that may fail.
        usd_per_hour: A pod's price, for its metric of the price so far; 0 leaves the metric out.
        teacher: The fine-tuned model; kept beside the registered version, so that a later training can go on from it.
        settings: Entries that stand in for the arguments of their names.
    """
    arguments = locals()
    from pathlib import Path

    from undercut.deploy.deployment import deploy
    from undercut.deploy.settings import DeployConfig
    from undercut.hyperparameters import from_arguments
    from undercut.steps import step

    kept = Path(teacher.path) if teacher else None
    with step("deploy", model_name, inputs=[chosen.path, selection.path, data.path], output=deployment.path):
        config = from_arguments(DeployConfig, arguments, settings=settings)
        deploy(Path(chosen.path), Path(selection.path), Path(data.path), Path(deployment.path), config, kept)
