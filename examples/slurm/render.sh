#!/bin/bash
# Rendering for trainings: a dispatcher on the first node, a worker on every node.
#     sbatch --nodes=8 examples/slurm/render.sh --image_size=70 --group_size=5
# Its arguments are the flags of the scenes. Its log says what to give to dcign-train as --data_service, beside the same
# flags and --render_on_the_fly.
#SBATCH --job-name=dcign-render
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail

nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
first=${nodes[0]}
echo "--data_service=grpc://$first:5050"
dcign-data --serve=dispatcher --host=0.0.0.0 --port=5050 &
srun dcign-data --serve=worker --dispatcher="grpc://$first:5050" --host=0.0.0.0 --port=5051 \
  --processes="$SLURM_CPUS_PER_TASK" "$@"
