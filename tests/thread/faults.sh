#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# test_faults once more, with a progress thread in every team that is woken by every operation that was started.
set -u
program=$(dirname "${SENNIT:-build/sennit}")/tests/test_faults
[ -x "$program" ] || { echo "skipped: $program is not built (package libcmocka-dev)"; exit 77; }
export TEST_FILTER='*killed*'    # the others find failures in calls that wait, where the thread has no part
SNT_PROGRESS_THREAD=1 SNT_PROGRESS_BYTES=0 exec "$program"
