#!/usr/bin/env bash
# The learning rates (and TMKT's r_m and weights) of `tmkt table encodings`, and what "ours" is in `zero-shot` and `long`:
#   bash run_scripts/tune_encodings.sh DATA
# Five rates or more for every row of `encodings` (three for most of `long`), one seed that no table reports, judged on the validation recordings alone.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
sweep() { python -m tmkt_braincog table sweep -c nmnist_encodings --data-root "$DATA" --seed 7 --no-tensorboard --jobs 2 --against lr=0.4 "$@"; }
DATA="${1:?the folder of the data: bash run_scripts/tune_encodings.sh DATA}"
out="results/tuning_encodings"
rates="lr=0.1,0.2,0.4,0.8,1.6"
encodings="source-encoding=repeat,i2e,saccade"
sweep --shots 0 --method finetune --vary "$encodings" --vary "$rates" --output "$out/zero"
sweep --shots 5 --method baseline finetune --vary "$encodings" --vary "$rates" --output "$out/five"
sweep --shots 5 --method event-only --vary lr=0.05,0.1,0.2,0.4,0.8 --output "$out/event-only"
tmkt() { sweep --shots 5 --method tmkt --mixup-ratio "$1" --mag-weight "$2" --mrp-weight "$2" --vary "$3" --vary "$4" --against "${4%%,*}" --output "$out/tmkt-$1-$2-${3##*=}"; }
tmkt 0.1 0.1 "$encodings" "$rates"
tmkt 0.1 0.1 source-encoding=saccade lr=3.2
for own in "0.4 0.1" "0.1 1" "0.4 1"; do  # TMKT's own numbers, at its best rates
  tmkt $own source-encoding=repeat lr=0.4
  tmkt $own source-encoding=i2e lr=0.8
  tmkt $own source-encoding=saccade lr=0.8,1.6
done
ours() { sweep --shots 0 --method finetune --source-encoding saccade --lr 0.8 "$@"; }
ours --static-images 1000 --vary epochs=120 --against epochs=120 --output "$out/ours-short"
ours --static-images 2000 --epochs 480 --vary augment=none,crop,nda --against augment=none --output "$out/ours-augment"
ours --static-images 2000 --camera flip=true vary=1 --vary epochs=480 --against epochs=480 --output "$out/ours-camera"
long() { sweep --shots 5 --source-encoding saccade --static-images 2000 --epochs 240 --camera flip=true vary=1 "$@"; }
long --method baseline --lr 0.4 --vary pow=3,inf --against pow=inf --output "$out/long-sliding"
long --method baseline --pow inf --vary lr=0.4,0.8,1.6 --output "$out/long-rate"
long --method baseline --pow inf --lr 0.4 --vary domain-loss=true,false --against domain-loss=true --output "$out/long-alignment"
heads="--mag-weight 0.1 --mrp-weight 0.1"
long --method tmkt --mixup-ratio 0.1 $heads --vary lr=0.8,1.6 --against lr=0.8 --output "$out/long-tmkt"
long --method tmkt --mixup-ratio 0.4 $heads --vary lr=0.8 --against lr=0.8 --output "$out/long-tmkt-ratio"
longer() { long --epochs "$1" --static-images "$2" --method "$3" "${@:4}" --vary lr=0.8 --against lr=0.8 --output "$out/long-$3-$1-$2"; }
longer 480 2000 baseline --pow inf
for size in "480 2000" "960 2000" "960 5000"; do longer $size tmkt --mixup-ratio 0.1 $heads; done
sweep --shots 5 --method event-only --epochs 240 --vary lr=0.05,0.1,0.2,0.4,0.8,1.6,3.2 --output "$out/long-event-only"
sweep --shots 5 --method baseline --static-images 2000 --epochs 240 --vary lr=0.4,0.8,1.6 --output "$out/long-repeat"
