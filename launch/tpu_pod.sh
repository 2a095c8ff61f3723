#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU pod slice, started from your desk:
#   bash launch/tpu_pod.sh NAME ZONE --config=configs/cifar10_resnet20.py --workdir=/mnt/shared/run
# The hosts have this repository in ~/onestep, set up with `bash setup.sh tpu`, and share the folder
# of --workdir. The same command again resumes. DRY_RUN=1 prints the command.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: bash launch/tpu_pod.sh NAME ZONE --config=... [more flags of research.main]" >&2
  exit 2
fi
name=$1 zone=$2
shift 2
printf -v flags ' %q' "$@"
# Who is who, jax asks the pod itself.
there="cd onestep && ONESTEP_CLUSTER=auto .venv/bin/python -m research.main$flags"
command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" --worker=all "--command=$there")
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi
exec "${command[@]}"
