#!/usr/bin/env bash
# Trains a teacher where there is none, then a method that learns from it; the scripts beside this one call it:
#   bash run_scripts/distil.sh NAME METHOD ON "TEACHER OPTIONS" [DATA ROOT] [options]
# ON: static (for ckd) or events (for seal). The options decide data and split of both. Teachers are kept in
# results/teachers/; another one by --teacher-checkpoint FILE, {seed} in it standing for the run's seed. TMKT_TEACHER, where
# set, takes the place of TEACHER OPTIONS (python -m tmkt_braincog teacher train --help).
name="$1"; method="$2"; on="$3"; how="${TMKT_TEACHER:-$4}"; shift 4
root=""
case "${1:-}" in
    "" | -*) ;;
    *) root="$(realpath -m "$1")"; shift ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
root="${root:-$PWD/data}"
file="results/teachers/${name}_$on-{seed}.pt"
# $how is split into words on purpose.
python -m tmkt_braincog teacher train --on "$on" $how --teacher-checkpoint "$file" -c "$name" \
    --data-root "$root" --download "$@"
exec bash run_scripts/run.sh "$name" "$method" "$method" "$root" --teacher-checkpoint "$file" "$@"
