# SPDX-License-Identifier: BSD-3-Clause
# vfmig.bash: completion of vfmig's command line. What may come the program itself says: vfmig complete WORD...
_vfmig() {
	local line=${COMP_LINE:0:COMP_POINT} words candidate
	# shellcheck disable=SC2162 # a backslash quotes here
	read -a words <<<"$line"
	[[ $line != *[[:space:]] ]] || words+=('')
	# Bash ends words at ':' and '=' as well, and wants only what is behind the last one.
	local word=${words[-1]} known=
	[[ $word != *[:=]* ]] || known=${word%"${word##*[:=]}"}
	COMPREPLY=()
	while IFS=$'\t' read -r candidate _; do
		printf -v candidate '%q' "${candidate#"$known"}"
		COMPREPLY+=("$candidate")
	done < <("$1" complete "${words[@]:1}" 2>/dev/null)
	if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:=/] ]]; then compopt -o nospace; fi
}
complete -o default -F _vfmig vfmig
