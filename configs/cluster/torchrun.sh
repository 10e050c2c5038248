#!/usr/bin/env bash
# Run a command of sparsecode with a process for each GPU of this machine, or of several machines.
#
# One machine:
#   configs/cluster/torchrun.sh fit --config my_run.yaml
# Several machines: the same command on each, with its number and the address of the first.
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=node0 configs/cluster/torchrun.sh fit --config my_run.yaml
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=node0 configs/cluster/torchrun.sh fit --config my_run.yaml
#
# NPROC_PER_NODE: processes on each machine; if unset, one for each GPU, or one on a machine without.
# MASTER_PORT: a port that is free on the first machine; if unset, 29500.
set -euo pipefail

nodes=${NNODES:-1}
processes=${NPROC_PER_NODE:-$(python -c "import torch; print(max(1, torch.cuda.device_count()))")}
if [[ $nodes == 1 ]]; then
    meeting=(--standalone)
else
    rank=${NODE_RANK:?"is missing: give each machine its number, 0 to $((nodes - 1))"}
    address=${MASTER_ADDR:?"is missing: give the address of machine 0"}
    meeting=(--nnodes "$nodes" --node-rank "$rank" --master-addr "$address" --master-port "${MASTER_PORT:-29500}")
fi

exec python -m torch.distributed.run "${meeting[@]}" --nproc-per-node "$processes" -m sparsecode_pl.cli "$@" \
    --trainer.num_nodes "$nodes" --trainer.devices "$processes" --trainer.strategy ddp
