#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What `make install` leaves is enough for README.md's program: header, pkg-config, library. Only snt_* is exported.
set -eu
sennit=${SENNIT:-build/sennit}
build=$(dirname "$sennit")
readme=${srcdir:-.}/README.md
[ -e "$build/Makefile" ] || { echo "$build/Makefile is missing (set SENNIT)"; exit 99; }
for tool in pkg-config "${CC:-cc}"; do
	command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 77; }
done
if nm "$sennit" | grep -qE '__(asan|tsan|ubsan)_'; then
	echo "skipped: a library with sanitizers needs them in the program too"
	exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

env -u MAKEFLAGS -u MFLAGS make -s -C "$build" install DESTDIR="$work" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
pc=$(find "$work" -name sennit.pc)
libdir=$(find "$work" -name libsennit.so -printf '%h\n')
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$work PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
sed -n '/^.\{3\}c$/,/^.\{3\}$/{/^.\{3\}c\?$/!p}' "$readme" >"$work/shown"
{
	echo '#include <stdio.h>'
	grep '^#include' "$work/shown"
	echo 'int main(void) { float gradient[4] = { 1, 2, 3, 4 }, sum[4] = { 0 }; size_t count = 4;'
	grep -v '^#include' "$work/shown"
	echo 'return sum[3] == 4 ? 0 : 1; }'
} >"$work/program.c"
# shellcheck disable=SC2046 # several words
"${CC:-cc}" -Wall -Wextra -Werror -o "$work/program" "$work/program.c" $(pkg-config --cflags --libs sennit)
export LD_LIBRARY_PATH=$libdir
env -u SNT_RANK "$work/program" || { echo "README.md's program fails alone"; exit 1; }
ldd "$work/program" | grep -q 'libsennit\.so\.0 => '"$libdir" || { echo "the program does not load libsennit.so.0"; exit 1; }
others=$(nm -D --defined-only "$libdir/libsennit.so" | awk '$3 !~ /^snt_/ && $2 != "A"')
[ -z "$others" ] || { echo "exported, but not snt_*: $others"; exit 1; }
for kind in net profiler tuner; do
	[ -e "$libdir/libnccl-$kind-sennit.so" ] || { echo "no plugin for NCCL as $kind"; exit 1; }
done
[ -n "$(find "$work" -name 'sennit-perf.1*')" ] || { echo "no manual pages"; exit 1; }
[ -n "$(find "$work" -path '*bash-completion/completions/sennit')" ] || { echo "no completion"; exit 1; }
