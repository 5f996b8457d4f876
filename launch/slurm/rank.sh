#!/bin/bash
# Turn one SLURM task into one rank:  srun rank.sh COMMAND…
# torch and accelerate read RANK, WORLD_SIZE etc., but no variables of SLURM: without this, each task would train alone
# as rank 0 of 1. The last line execs the command, so that a signal to the task reaches Python itself.

export RANK=$SLURM_PROCID
export WORLD_SIZE=$SLURM_NTASKS
export LOCAL_RANK=$SLURM_LOCALID

# Tasks per node in short form: "2(x3)" means three nodes with two tasks each, "2,1" two tasks, then one.
counts=()
IFS=, read -ra groups <<<"$SLURM_STEP_TASKS_PER_NODE"
for group in "${groups[@]}"; do
    tasks=${group%%(*}
    nodes=1
    if [[ $group == *"(x"* ]]; then
        nodes=${group#*"(x"}
        nodes=${nodes%")"}
    fi
    for ((i = 0; i < nodes; i++)); do counts+=("$tasks"); done
done
export LOCAL_WORLD_SIZE=${counts[$SLURM_NODEID]}

# Without a batch script that has set the rendezvous address (see train.sbatch), use the step's first node.
if [[ -z ${MASTER_ADDR-} && -n ${SLURM_STEP_NODELIST-} ]]; then
    first_node=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | head -n 1)
    address=$(scontrol --oneliner show node "$first_node" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
    export MASTER_ADDR=${address:-$first_node}
    export MASTER_PORT=$((20000 + (8 * SLURM_JOB_ID + SLURM_STEP_ID % 8) % 12000))
fi

exec "$@"
