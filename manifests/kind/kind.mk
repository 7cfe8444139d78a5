# A Kubernetes on this machine, for one afternoon. Included by the Makefile.
CHECKOV := .venv-checkov

.PHONY: kind-up kind-test kind-down check-manifests

kind-up:  ## make a kind cluster with Kubeflow and Undercut on it (Docker, kind, kubectl, network)
	manifests/kind/up.sh

kind-test: setup  ## run one component, then the lifecycle, on the kind cluster
	manifests/kind/test.sh

kind-down:  ## delete the kind cluster
	manifests/kind/down.sh

# checkov pins older versions of boto3 and others than we do, so it has an environment of its own.
$(CHECKOV)/.installed: manifests/checkov.txt
	$(PYTHON) -m venv $(CHECKOV)
	$(CHECKOV)/bin/pip install --quiet --disable-pip-version-check --requirement manifests/checkov.txt
	@touch $@

check-manifests: setup $(CHECKOV)/.installed  ## render the manifests and check them, with checkov too
	$(BIN)/pytest tests/manifests
