#!/usr/bin/env bash
# Every table and figure of the paper for one data set, then a report, in results/tables/NAME/:
#   bash run_scripts/paper.sh NAME [DATA ROOT] [options]
# NAME: ndigits (built in, no download), nmnist, nmnist-fewshot, ncaltech101, cepdvs, nomniglot, cifar10dvs. Options go to all
# runs, such as --shots 5, --jobs 2, --seed 1 2 3, --slurm ... . Run again, it goes on where it stopped. CKD and SeAl-KD join
# Table 1 with --teacher-checkpoint results/static-{seed}.pt results/events-{seed}.pt, which tmkt_braincog/tables/neighbours.yaml
# says how to train: with the same data, shots and seeds.
name="${1:?usage: bash run_scripts/paper.sh NAME [DATA ROOT] [options]}"; shift
where=()
case "${1:-}" in
    "" | -*) ;;
    *) where=(--data-root "$(realpath -m "$1")"); shift ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
folder="results/tables/$name"
for table in table1 table2 table3 table4; do
    python -m tmkt_braincog table "$table" --data "$name" "${where[@]}" --output "$folder" "$@"
done
# The figures show one seed, the lowest; gradient variance (at the paper's ratio) and energy take all of them.
first="$(printf '%s\n' "$folder"/jobs/seed-*_method-tmkt/ | sort -V | head -n 1)"
seed="$(basename "$first")"; seed="${seed%_method-tmkt}"
methods=(event-only baseline tmkt)
runs=("${methods[@]/#/$folder/jobs/${seed}_method-}")
python -m tmkt_braincog figure all "${runs[@]}" "${where[@]}" --output "$folder/figures"
python -m tmkt_braincog figure gradient-variance "$folder"/jobs/seed-*_method-{baseline,tmkt}/ "${where[@]}" \
    --ratio 0.4 --batches 24 --output "$folder"
python -m tmkt_braincog figure energy "$folder"/jobs/seed-*_method-{event-only,baseline,tmkt}/ "${where[@]}" --output "$folder"
python -m tmkt_braincog report "$folder"
