#!/bin/bash
# One video, or a folder of images and videos, on as many machines as Slurm has free: a job array of eight shards.
#
#   sbatch examples/slurm.sh film.mp4 film-large.mkv
#   sbatch --array=1-100%20 examples/slurm.sh photos/ photos-large/     # 100 shards, 20 at once
#
# Input and output must be on storage that all nodes see. A task that is preempted, or whose node fails, is queued
# again and goes on where it was. To run only some tasks again, say how many shards there are:
#
#   SHARDS=8 sbatch --array=3,7 examples/slurm.sh film.mp4 film-large.mkv

#SBATCH --job-name=subpixel
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=subpixel-%A-%a.log

set -euo pipefail

: "${2:?usage: sbatch slurm.sh INPUT OUTPUT}"
SHARDS=${SHARDS:-${SLURM_ARRAY_TASK_COUNT:?is not set: submit this as a job array, such as with sbatch --array=1-8}}

exec srun subpixel upscale "$1" -o "$2" \
    --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --threads "$SLURM_CPUS_PER_TASK" --skip-existing --progress none --json
