# Completion of permafrost(1) for bash.	-*- shell-script -*-

_permafrost()
{
	local word verb verbs

	word=${COMP_WORDS[COMP_CWORD]}
	verb=${COMP_WORDS[1]-}
	verbs="hibernate snapshot selftest check status needed abort setup image receive"
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$verbs --help --version" -- "$word")
		return
	fi
	case $verb:$word in
	snapshot:*)
		case ${COMP_WORDS[COMP_CWORD - 1]} in
		--to)
			mapfile -t COMPREPLY < <(compgen -W "-" -- "$word")
			;;
		--then)
			mapfile -t COMPREPLY < <(compgen -W "halt merge" -- "$word")
			;;
		*)
			mapfile -t COMPREPLY < <(compgen -W "--to --then --json --help" -- "$word")
			;;
		esac
		;;
	status:-*)
		mapfile -t COMPREPLY < <(compgen -W "--watch --last --json --help" -- "$word")
		;;
	needed:-*)
		mapfile -t COMPREPLY < <(compgen -W "--explain --json --help" -- "$word")
		;;
	receive:*)
		case ${COMP_WORDS[COMP_CWORD - 1]} in
		--directory | list)
			mapfile -t COMPREPLY < <(compgen -d -- "$word")
			;;
		--certificate | --key | --ca)
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
			;;
		*)
			mapfile -t COMPREPLY < <(compgen -W "list --listen --directory --certificate --key --ca --json --help" -- "$word")
			;;
		esac
		;;
	setup:-*)
		mapfile -t COMPREPLY < <(compgen -W "--yes --force --json --help" -- "$word")
		;;
	*:-*)
		mapfile -t COMPREPLY < <(compgen -W "--json --help" -- "$word")
		;;
	setup:*)
		mapfile -t COMPREPLY < <(compgen -f -- "${word:-/dev/disk/by-id/}")
		;;
	image:*)
		if ((COMP_CWORD == 2)); then
			mapfile -t COMPREPLY < <(compgen -W "show verify discard copy" -- "$word")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "${word:-/dev/disk/by-id/}")
		fi
		;;
	esac
}

complete -F _permafrost permafrost
