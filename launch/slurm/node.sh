#!/bin/bash
# Turn one SLURM task into the launcher of a node's ranks:  srun node.sh PYTHON -m trainer.main OPTIONS…
# For users of `accelerate launch` and its configuration file; rank.sh is simpler, and signals reach Python directly.

python=$1
shift

# By default the launcher kills its ranks 30 s after it has passed a signal on; give them time to save.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}
((GPUS_PER_NODE)) || export ACCELERATE_USE_CPU=true
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / RANKS_PER_NODE > 0 ? SLURM_CPUS_PER_TASK / RANKS_PER_NODE : 1))

exec "$python" -m accelerate.commands.launch \
    --multi_gpu --mixed_precision no --dynamo_backend no \
    --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
    --num_processes $((SLURM_NNODES * RANKS_PER_NODE)) \
    --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT" \
    "$@"
