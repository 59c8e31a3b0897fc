#!/usr/bin/env bash
# What a machine with a GPU can tell of this code, in under ten minutes; the table comes last.
#
#   benchmarks/gpu.sh OUT [PHOTOS]        PHOTOS: a folder to pre-train on with the time that is left, else drawn scenes
#
# Each part's output is OUT/PART.log; a part that is done is not repeated, so a run that was cut off goes on. Without a
# GPU the same parts run on the CPU, in sizes that take minutes. Status 1 if a part failed.
set -uo pipefail
out=${1:?usage: benchmarks/gpu.sh OUT [PHOTOS]} photos=${2:-scenes:2000}
PYTHON=${PYTHON:-python} SECONDS=0 LIMIT=${LIMIT:-540} # seconds for all
mkdir -p "$out"
gpus=$($PYTHON -c 'import torch; print(torch.cuda.device_count())')
ranks=$((gpus > 1 ? 2 : 1))
if ((gpus)); then
    device=cuda small="--arch resnet18 --image-size 128 --batch-size 64 --data scenes:512" boxes=""
    costs="--shape resnet50,224,64 --shape resnet18,112,256 --repeats 3"
    real="--arch resnet18 --image-size 128 --batch-size 256 --epochs 20"
else
    device=cpu small="--arch tiny --image-size 32 --batch-size 8 --data scenes:48" boxes="--short-sides 64 --test-short-side 64"
    costs="--shape tiny,32,8 --repeats 1 --modes fp32"
    real="--arch tiny --image-size 32 --batch-size 32 --epochs 1"
fi
train="$PYTHON -m torch.distributed.run --standalone --nproc_per_node=$ranks train_ddp.py --preset demo"
table=()

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
    table+=("$(printf '%-10s %4d s  %-12s %s' "$name" $((SECONDS - started)) "$status" \
        "$(tr '\r' '\n' <"$out/$name.log" | grep -E "$shown" | tail -2 | tr -s ' ' | paste -sd ';')")")
}

pretrained() { # interrupted after its first checkpoint, and resumed
    local run="$train $small --accumulate 2 --epochs 2 --save-every 4 --log-every 2 --picture-every 8"
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

for_the_rest() { # of the time; a run that is stopped has saved its state
    timeout --signal=TERM $((LIMIT > SECONDS + 30 ? LIMIT - SECONDS - 20 : 10)) $train $real --data "$photos" \
        --regions superpixels:8 --picture-every 0 --out "$out/real" --resume auto
    [[ $? =~ ^(0|75|124)$ ]]
}

part pretrain "images/s|object AUC" pretrained
part look "object AUC" $PYTHON -m plrc affinity scenes:4 --checkpoint "$out/run" --device $device --out "$out/affinity"
part export "tensors of" $PYTHON -m plrc export "$out/run" --to safetensors --out "$out/run.safetensors"
part detector "COCO, boxes +[0-9]" $PYTHON -m plrc detect train --preset small --train scenes:16 --test scenes:4@1 --weights "$out/run" \
    $boxes --iterations 20 --precise-bn 2 --out "$out/detector" --resume auto
part cost "step / floor" $PYTHON -m benchmarks step $costs --out "$out/cost.json"
part real "images/s|object AUC" for_the_rest

echo
$PYTHON -c 'import platform, torch; gpu = torch.cuda.is_available() and torch.cuda.get_device_name()
print(f"{gpu or platform.processor() or platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}")'
printf '%s\n' "${table[@]}"
exit "${failed:-0}"
