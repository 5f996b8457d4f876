#!/bin/bash
# One SLURM task becomes one rank:  srun rank.sh COMMAND…
# torch and accelerate read RANK, WORLD_SIZE and their like, and nothing of SLURM's: without this each task would train
# alone, as rank 0 of one. The last line *becomes* the command, so that a signal to the task reaches Python itself.

export RANK=$SLURM_PROCID
export WORLD_SIZE=$SLURM_NTASKS
export LOCAL_RANK=$SLURM_LOCALID

# Tasks on each node in short form: "2(x3)" is three nodes of two, "2,1" one of two and one of one. Ours is entry NODEID.
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

# A batch script has said where the ranks meet (train.sbatch tells why there). Without one: on the step's first node.
if [[ -z ${MASTER_ADDR-} && -n ${SLURM_STEP_NODELIST-} ]]; then
    first_node=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | head -n 1)
    address=$(scontrol --oneliner show node "$first_node" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
    export MASTER_ADDR=${address:-$first_node}
    export MASTER_PORT=$((20000 + (SLURM_JOB_ID + 100 * SLURM_STEP_ID) % 10000))
fi

exec "$@"
