"""The model as MLflow loads it: ``mlflow.pyfunc.load_model("models:/NAME@champion").predict(["text"])``.

MLflow copies this file into the registered version and runs it at loading ("models from code"): no
Python object is stored. The folder's digest travels in the version's configuration and is checked.
"""

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from undercut.predictors import load_predictor

BATCH = 32


class TextClassifier(PythonModel):
    """Texts in, label names out."""

    def load_context(self, context: Any) -> None:
        """Load and verify the model folder that lies in the version."""
        settings = context.model_config
        self.predictor = load_predictor(Path(context.artifacts["model"]), settings["threads"], settings["digest"])

    def predict(self, context: Any, model_input: list[str]) -> list[str]:  # type: ignore[override]
        """Return the most probable label of each text."""
        batches = [model_input[i : i + BATCH] for i in range(0, len(model_input), BATCH)]
        best = [i for batch in batches for i in self.predictor.probabilities(batch).argmax(axis=1)]
        return [self.predictor.labels[i] for i in best]


set_model(TextClassifier())
