#!/usr/bin/env bash
# A fit as a SLURM job, with a task for each GPU:
#   sbatch --nodes 2 configs/cluster/slurm.sh fit --config my_run.yaml
#
# 90 seconds before the time is up, SLURM signals the tasks. A checkpoint is then saved, and the job is put into the queue
# again, where it goes on from there. The run stands in slurm/JOB_ID. For the fits of `measure`, see docs/scaling.md.
#
#SBATCH --job-name=sparsecode
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=SIGUSR1@90
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
[[ ${1:-} == fit ]] || { echo "the command is ${1:-missing}: give fit" >&2 && exit 2; }

resume=()
if ((${SLURM_RESTART_COUNT:-0} > 0)); then
    resume=(--ckpt_path last)
fi

srun sparsecode "$@" --trainer.num_nodes "$SLURM_JOB_NUM_NODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" \
    --trainer.strategy ddp --trainer.default_root_dir "slurm/$SLURM_JOB_ID" ${resume[@]+"${resume[@]}"}
