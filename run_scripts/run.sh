#!/usr/bin/env bash
# Trains on one data set with the settings in tmkt_braincog/recipes/NAME.yaml; the scripts beside this one call it:
#   bash run_scripts/run.sh NAME "METHODS [options]" LABEL [DATA ROOT] [options]
# DATA ROOT holds the data sets' own folders (default: data/ in the checkout). What is missing there is
# downloaded where a public link exists; otherwise the program says what to fetch from where. A run that was
# interrupted goes on where it stopped; results are in results/NAME_LABEL/ unless --output says otherwise.
# TMKT_PROCESSES=N trains with N processes, one GPU each.
name="$1"; methods="$2"; label="$3"; shift 3
root=""
case "${1:-}" in
    "" | -*) ;;
    *) root="$(realpath -m "$1")"; shift ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
launch="python"
[ "${TMKT_PROCESSES:-1}" = 1 ] || launch="torchrun --standalone --nproc_per_node=$TMKT_PROCESSES"
# $launch and $methods are split into words on purpose.
$launch main_transfer.py -c "$name" --method $methods --data-root "${root:-$PWD/data}" --download \
    --output "results/${name}_$label" --resume "$@"
