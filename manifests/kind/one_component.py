"""One component alone, ingest, to see that a cluster runs a step at all.

undercut submit manifests/kind/one_component.py --source s3://mlpipeline/private/kubeflow/undercut/data/messages.csv
"""

from kfp import dsl
from undercut.allocate.component import allocate
from undercut.cluster import pods
from undercut.ingest.component import ingest
from undercut.resources import DEFAULTS as RESOURCES

URIS = ("source",)


@dsl.pipeline(name="one-component")
def one_component(source: str, resources: dict = RESOURCES):
    """Clean and split labelled text, and nothing more.

    Args:
        source: labelled rows, a CSV file that pods can read, such as s3://BUCKET/messages.csv.
        resources: cpu and memory of the step, as in the other pipelines.
    """
    pods_ask = allocate(resources=resources)
    ingest(source=source).after(pods_ask)
    pods.furnish(pods_ask.outputs)
