#!/bin/bash
# Pre-training on 4 nodes of 8 GPUs under Slurm: `sbatch docs/slurm.sh`. A job that is pre-empted, or whose time is over,
# saves, is put into the queue again and goes on where it was; so does one whose node died.
#SBATCH --job-name=plrc
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8           # a task is a rank
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12            # for its loading processes, see docs/scaling.md
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180             # three minutes before the end every rank is told to save
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=plrc-%j.log

# A folder that all nodes share, with the superpixels of `plrc regions` and the index of foreign shards.
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}
export OMP_NUM_THREADS=1

trap : TERM                           # the script outlives it, to put the job into the queue again
# Without torchrun each task takes its number in Slurm as its rank.
srun --kill-on-bad-exit=1 python train_ddp.py --data '/data/imagenet-shards/{000000..001140}.tar' \
    --out "$HOME/runs/r50" --batch-size 1024 --resume auto
status=$?

# 75: stopped by a signal with everything saved. Any other failure stays one.
if [ $status -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
