"""Return once the tracking database has the schema of this image's MLflow; libpq's variables say where it is."""

import time

from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

DATABASE = "postgresql+psycopg2:///"
WAIT_SECONDS = 5


def main() -> None:
    """Ask every five seconds. The pod's own deadline is what ends it when the schema never comes."""
    engine = create_engine(DATABASE)
    while True:
        try:
            utils._verify_schema(engine)
            return
        except (MlflowException, OperationalError) as error:
            print(f"waiting for Job mlflow-schema: {str(error).splitlines()[0][:200]}", flush=True)
            time.sleep(WAIT_SECONDS)


if __name__ == "__main__":
    main()
