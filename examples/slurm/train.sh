#!/bin/bash
# Training on all GPUs of two nodes, a worker on each, in a folder that both see:
#     sbatch examples/slurm/train.sh --workdir=runs/faces --data=data/faces --groups_per_step=8
# Its arguments are those of dcign-train. Preempted, out of time or cut off by a lost node, the job queues again and goes
# on from the last checkpoint.
#SBATCH --job-name=dcign-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

hosts=
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  hosts+="\"$host:2222\","
done
export hosts=${hosts%,}

status=0
# The quotes are single: each task fills in its own number.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -euc '
  export TF_CONFIG="{\"cluster\": {\"worker\": [$hosts]},
    \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec dcign-train --strategy=multi_worker "$@"
' dcign-train "$@" || status=$?

# 2 is a mistake in the flags, which another time would not mend.
if ((status != 0 && status != 2 && ${SLURM_RESTART_COUNT:-0} < 20)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
