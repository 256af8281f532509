# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Completion of sennit's command line for bash; commands, options and algorithms come from sennit itself.
_sennit_collectives="allreduce reduce_scatter allgather broadcast reduce alltoall gather scatter barrier"

_sennit_commands()
{
	"$1" --help 2>/dev/null | sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p'
}

# The words that may follow option $3 of command $2, or none.
_sennit_values()
{
	case $3 in
	--type) echo int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 ;;
	--op) echo sum product min max average band bor bxor land lor lxor ;;
	--scenario) "$1" nccl-check --list 2>/dev/null | sed 's/ .*//' ;;
	--kind) echo net profiler tuner ;;
	--version) echo 4 5 6 8 9 10 11 12 ;;
	--transport) echo shm tcp shm,tcp tcp,shm ;;
	--algorithm) [[ " $_sennit_collectives " != *" $4 "* ]] || "$1" plan "$4" 2>/dev/null ;;
	esac
}

# Whether option $3 of command $2 is followed by a value: --help shows it in capitals.
_sennit_takes_value()
{
	"$1" "$2" --help 2>/dev/null | grep -qE -- "^  $3 [A-Z]"
}

_sennit()
{
	local sennit=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local command=${COMP_WORDS[1]-} words=

	if [ "$COMP_CWORD" -eq 1 ]; then
		words="$(_sennit_commands "$sennit") help --help --version"
	elif [ "$command" = help ]; then
		words=$(_sennit_commands "$sennit")
	elif [ "$before" = --json ] || [ "$before" = --csv ] || [ "$before" = --plugin ]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
	elif [[ $before == --* ]] && _sennit_takes_value "$sennit" "$command" "$before"; then
		words=$(_sennit_values "$sennit" "$command" "$before" "${COMP_WORDS[2]-}")
	elif [[ $word == -* ]]; then
		words=$("$sennit" "$command" --help 2>/dev/null | grep -oE -- '^  --[a-z-]+')
	elif [ "$COMP_CWORD" -eq 2 ] && [ "$command" = perf ]; then
		words="$_sennit_collectives sendrecv latency bandwidth all"
	elif [ "$COMP_CWORD" -eq 2 ] && [ "$command" = plan ]; then
		words=$_sennit_collectives
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _sennit sennit
