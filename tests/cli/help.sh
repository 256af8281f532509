#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every command shows its help, and its long options are those of its manual page.
set -u
pages=${srcdir:-.}/docs/man
sennit=${SENNIT:-build/sennit}
[ -x "$sennit" ] || { echo "$sennit is not built (set SENNIT)"; exit 99; }

bad=0
complain() {
	echo "$*"
	bad=1
}

# An option is spoken of in a help text as '  --name', in a page as 'Fl -name'.
in_help() {
	grep -oE '^  +--[a-z][a-z-]*' | sed 's/^ *--//' | sort -u
}
in_page() {
	sed 's/\\-/-/g' "$1" | grep -oE 'Fl +-[a-z][a-z-]*' | sed 's/^Fl *-//' | sort -u
}

# compare PAGE ARGUMENT...: --help against the page
compare() {
	local page=$1 text
	shift
	if ! text=$("$sennit" "$@" 2>&1); then
		complain "sennit $* fails: $text"
		return
	fi
	if [ ! -e "$page" ]; then
		complain "$page is missing"
		return
	fi
	diff <(in_help <<<"$text") <(in_page "$page") >/dev/null ||
		complain "sennit $* and $page differ: $(diff <(in_help <<<"$text") <(in_page "$page") | grep '^[<>]' | tr '\n' ' ')"
}

commands=$("$sennit" --help | sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p')
[ -n "$commands" ] || complain "sennit --help lists no commands"
compare "$pages/sennit.1" --help
for command in $commands; do
	compare "$pages/sennit-$command.1" "$command" --help
	[ "$("$sennit" help "$command")" = "$("$sennit" "$command" --help)" ] ||
		complain "sennit help $command is not sennit $command --help"
	grep -q "^\.It Cm $command\$" "$pages/sennit.1" || complain "sennit.1 does not list $command"
done

# usage ARGUMENT...: exit code 2 and a sentence
usage() {
	local text status
	text=$("$sennit" "$@" 2>&1 >/dev/null)
	status=$?
	[ $status -eq 2 ] || complain "sennit $* exits with $status, not 2"
	[ -n "$text" ] || complain "sennit $* says nothing"
}
usage
usage nonsense
usage help nonsense
usage info --nonsense
usage info nonsense
usage doctor --nonsense

"$sennit" --version | grep -qE '^sennit [0-9]+\.[0-9]+\.[0-9]+' || complain "sennit --version shows no version"
settings=$("$sennit" info --settings) || complain "sennit info --settings fails"
while read -r name; do
	grep -q "^$name=" <<<"$settings" || complain "sennit info --settings does not show $name"
done < <(grep -oE '"SNT_[A-Z0-9_]+"' "${srcdir:-.}/base/settings.h" | tr -d '"')
doctor=$("$sennit" doctor)
[ $? -le 1 ] || complain "sennit doctor ends strangely"
grep -qE '^ok ' <<<"$doctor" || complain "sennit doctor finds nothing well: $doctor"
exit $bad
