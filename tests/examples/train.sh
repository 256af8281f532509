#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Two ranks learn Fashion-MNIST in one epoch and keep equal weights; 1, 2, 3 and 4 ranks agree.
set -u
examples=${EXAMPLES:-build/examples}
folder=/usr/share/datasets/fashion-mnist

out=$("$examples/train" --ranks 1 --data /nonexistent 2>&1) && { echo "no data, no error"; exit 1; }
grep -q 'install the Debian package dataset-fashion-mnist' <<<"$out" || { echo "$out"; exit 1; }

[ -d $folder ] || { echo "skipped: the Debian package dataset-fashion-mnist is not installed"; exit 77; }

run() {
	out=$(timeout 120 "$examples/train" "$@") || { echo "train $*: exit $?"; echo "$out"; exit 1; }
	echo "$out"
}

run --ranks 2 --epochs 1 --accept 80
grep -qE '^epoch 1: loss 0\.[0-9]+, test accuracy [0-9.]+ %' <<<"$out" || exit 1
grep -qE '^weights identical on all 2 ranks: [0-9a-f]{16}$' <<<"$out" || exit 1

run --compare
grep -qE '^weights differ .*: of the same size$' <<<"$out"
