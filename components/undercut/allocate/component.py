"""KFP face of allocate."""

from typing import NamedTuple

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def allocate(resources: dict) -> NamedTuple(  # type: ignore[valid-type]
    "Allocation",
    cpu=str,
    memory=str,
    secret=str,
    accelerator=str,
    accelerator_count=str,
    node_selector=dict,
    tolerations=list,
    launcher_accelerator=str,
    launcher_accelerator_count=str,
    launcher_node_selector=dict,
    launcher_tolerations=list,
):
    """Check what a run asks of the cluster, and hand each piece to the steps whose pods need it.

    Args:
        resources: accelerator, accelerator_count, cpu, memory, node_selector, tolerations, secret, nodes, processes.

    Returns:
        What step pods ask for. Where a TrainJob trains (several nodes, or spot), the step that follows it needs no device.
    """
    from undercut.allocate.allocation import allocation
    from undercut.steps import step

    with step("allocate"):
        return allocation(resources)
