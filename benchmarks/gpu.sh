#!/usr/bin/env bash
# What a machine with a GPU can tell of this code, in under ten minutes: a table, whose rows come as their parts are done.
#
#   benchmarks/gpu.sh OUT [PHOTOS]        PHOTOS: a folder to pre-train on with the time that is left, else drawn scenes
#
# Each part's output is OUT/PART.log; a part that is done is not repeated, so a run that was cut off goes on. Without a
# GPU the same parts run on the CPU, in sizes that take minutes. Status 1 if a part failed.
set -uo pipefail
out=${1:?usage: benchmarks/gpu.sh OUT [PHOTOS]} photos=${2:-scenes:2000}
PYTHON=${PYTHON:-python3} SECONDS=0 LIMIT=${LIMIT:-540} # seconds for all
mkdir -p "$out"
if ! $PYTHON -c 'import benchmarks.__main__, faster_coco_eval'; then
    echo "benchmarks/gpu.sh: something is not installed: call it in the project's folder, after $PYTHON -m pip install -e '.[detection]'" >&2
    exit 2
fi
$PYTHON -c 'import platform, torch; gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"{gpu}, {platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}")'
gpus=$($PYTHON -c 'import torch; print(torch.cuda.device_count())')
ranks=$((gpus > 1 ? 2 : 1))
if ((gpus)); then
    device=cuda small="--arch resnet18 --image-size 128 --batch-size 64 --data scenes:512 --workers -1" boxes="--workers -1"
    costs="--shape resnet50,224,64 --shape resnet18,112,256 --repeats 3"
    real="--arch resnet18 --image-size 128 --batch-size 256 --epochs 20 --workers -1"
else
    device=cpu small="--arch tiny --image-size 32 --batch-size 8 --data scenes:48" boxes="--short-sides 64 --test-short-side 64"
    costs="--shape tiny,32,8 --repeats 1"
    real="--arch tiny --image-size 32 --batch-size 32 --epochs 1"
fi
train="$PYTHON -m torch.distributed.run --standalone --nproc_per_node=$ranks train_ddp.py --preset demo"

part() { # NAME, what to show of its output, COMMAND…
    local name=$1 shown=$2 started=$SECONDS status="done before"
    shift 2
    if [[ ! -e $out/$name.done ]]; then
        if "$@" >"$out/$name.log" 2>&1; then
            status=ok
            touch "$out/$name.done"
        else
            status="FAILED, see $out/$name.log"
            failed=1
        fi
    fi
    printf '%-10s %4d s  %s\n' "$name" $((SECONDS - started)) "$status"
    tr '\r' '\n' <"$out/$name.log" | grep -E "$shown" | tail -4 | tr -s ' ' | sed 's/^ */    /'
}

within() { # the seconds that are left, but at least so many; a run that is stopped saves its state
    echo timeout --kill-after=20 $((LIMIT > SECONDS + $1 ? LIMIT - SECONDS : $1))
}

pretrained() { # interrupted after its first checkpoint, and resumed
    local run="$(within 60) $train $small --accumulate 2 --epochs 2 --save-every 4 --log-every 2 --picture-every 8"
    $run --out "$out/run" --resume auto &
    local process=$!
    until [[ -e $out/run/checkpoints/last.pt ]]; do
        kill -0 $process 2>/dev/null || break
        sleep 0.2
    done
    kill -TERM $process 2>/dev/null
    wait $process
    $run --out "$out/run" --resume auto
}

for_the_rest() {
    $(within 10) $train $real --data "$photos" --regions superpixels:8 --picture-every 0 --out "$out/real" --resume auto
    [[ $? =~ ^(0|75|124)$ && -e $out/real/checkpoints/last.pt ]]
}

part pretrain "images/s|object AUC" pretrained
part look "object AUC" $(within 60) $PYTHON -m plrc affinity scenes:4 --checkpoint "$out/run" --device $device --out "$out/affinity"
part match "correct" $(within 60) $PYTHON -m plrc correspond scenes:4 --regions objects --checkpoint "$out/run" --device $device --out "$out/matches"
part export "tensors of" $(within 60) $PYTHON -m plrc export "$out/run" --to safetensors --out "$out/run.safetensors"
part detector "COCO, boxes +[0-9]" $(within 60) $PYTHON -m plrc detect train --preset small --train scenes:16 --test scenes:4@1 --weights "$out/run" \
    $boxes --iterations 20 --precise-bn 2 --out "$out/detector" --resume auto
part cost "step / floor" $(within 60) $PYTHON -m benchmarks step $costs --modes fp32 bf16 --out "$out/cost.json"
if ((gpus)); then
    part compiled "images/s|object AUC" $(within 60) $train $small --compile on --epochs 1 --out "$out/compiled" --resume auto
    part gain "step / floor" $(within 60) $PYTHON -m benchmarks step $costs --modes bf16 bf16+compile --out "$out/gain.json"
fi
part real "images/s|object AUC" for_the_rest
exit "${failed:-0}"
