# SPDX-License-Identifier: BSD-3-Clause
# Completion of sennit's command line for bash; the options come from --help itself.
_sennit()
{
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]-}
	local words=

	if [ "$COMP_CWORD" -eq 1 ]; then
		words="perf plan info doctor help --help --version"
	elif [ "$before" = --json ] || [ "$before" = --csv ]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
	elif [ "$command" = help ]; then
		words="perf plan info doctor"
	elif [ "$before" = --type ]; then
		words="int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64"
	elif [ "$before" = --op ]; then
		words="sum product min max average band bor bxor land lor lxor"
	elif [ "$before" = --transport ]; then
		words="shm tcp"
	elif [[ $word == -* ]]; then
		words=$("${COMP_WORDS[0]}" help "$command" 2>/dev/null | grep -oE -- '^  --[a-z-]+')
	elif [ "$command" = perf ] && [ "$COMP_CWORD" -eq 2 ]; then
		words="allreduce reduce_scatter allgather broadcast reduce alltoall gather scatter barrier sendrecv all"
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _sennit sennit
