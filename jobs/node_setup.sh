#!/bin/bash
# Install the packages of a cluster's node, from the lock file of its kind in the folder of this script:
#
#   bash node_setup.sh featurize    # featurization; no TensorFlow
#   bash node_setup.sh train        # everything; TensorFlow for GPUs if there is an NVIDIA driver, else for CPUs
#
# Nothing is installed again if the lock has not changed, so a machine started from an image on which this script has
# already run is ready within seconds. Python 3.11 to 3.13, with venv. `cluster.yaml` runs it, and docs/cluster.md says
# how to bake an image with it.
set -euo pipefail
cd "$(dirname "$0")"

case "${1:-}" in
  featurize) kind=featurize ;;
  train) if nvidia-smi > /dev/null 2>&1; then kind=train-gpu; else kind=train-cpu; fi ;;
  *) echo "usage: node_setup.sh featurize|train" >&2; exit 2 ;;
esac
lock=requirements-$kind.lock

if ! cmp -s "$lock" installed.lock; then
  rm -f installed.lock
  "${PYTHON:-python3}" -m venv --clear venv
  venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$lock"
  cp "$lock" installed.lock
fi

# For interactive shells on a node, and for `ray exec` and `ray attach`.
if ! grep -qs earmark/venv ~/.bashrc; then
  echo 'export PATH=$HOME/earmark/venv/bin:$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token' >> ~/.bashrc
fi
