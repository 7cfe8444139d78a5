"""The model as MLflow loads it: ``mlflow.pyfunc.load_model("models:/NAME@champion").predict(["text"])``.

MLflow copies this file into the registered version and runs it at loading ("models from code"): no
Python object is stored. The folder's digest travels in the version's configuration and is checked.
"""

import json
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from undercut.label_sets import names
from undercut.predictors import load_predictor

BATCH = 32


class TextClassifier(PythonModel):
    """Texts in, label names out; of a multi-label model JSON lists of label names, the surest first."""

    def load_context(self, context: Any) -> None:
        """Load and verify the model folder that lies in the version."""
        settings = context.model_config
        self.predictor = load_predictor(Path(context.artifacts["model"]), settings["threads"], settings["digest"])

    def predict(self, context: Any, model_input: list[str]) -> list[str]:  # type: ignore[override]
        """Return each text's label, or its labels as a JSON list."""
        batches = [model_input[i : i + BATCH] for i in range(0, len(model_input), BATCH)]
        answers = [answer for b in batches for answer in names(self.predictor, self.predictor.probabilities(b))]
        return [a if isinstance(a, str) else json.dumps(a, ensure_ascii=False) for a in answers]


set_model(TextClassifier())
