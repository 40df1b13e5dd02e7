#!/bin/bash
# Configures and builds the kernel out of its source tree, from allnoconfig and the fragments named,
# and fails when an option of a fragment did not take. Objects go to DIRECTORY/o; a line with the
# percentage is printed as it goes, counted against the last build there or a typical one.
#
# usage: kernel/build.sh DIRECTORY FRAGMENT…      (DIRECTORY/linux is the source, see apply.sh)
# KBUILD_BUILD_VERSION from the environment becomes the number after '#' in uname -v.
set -euo pipefail

directory=$(cd "${1:?usage: kernel/build.sh DIRECTORY FRAGMENT…}" && pwd)
shift
[ $# -gt 0 ] || { echo "kernel/build.sh: no configuration fragment named" >&2; exit 2; }
source=$directory/linux
objects=$directory/o
typical_objects=2358

export CCACHE_BASEDIR=$directory CCACHE_NOHASHDIR=1
export KBUILD_BUILD_TIMESTAMP='2025-01-01 00:00:00 UTC' KBUILD_BUILD_USER=permafrost KBUILD_BUILD_HOST=laboratory
compiler=gcc
if command -v ccache > /dev/null; then compiler="ccache gcc"; fi

build() {
    make -C "$source" O="$objects" CC="$compiler" HOSTCC="$compiler" LOCALVERSION= "$@"
}

configure() {
    mkdir -p "$objects"
    cat "$@" > "$objects/fragments"
    cp "$objects/.config" "$objects/.config.before" 2>/dev/null || : > "$objects/.config.before"
    build -s KCONFIG_ALLCONFIG="$objects/fragments" allnoconfig
    # An unchanged configuration keeps its date, or everything would be built again.
    if cmp -s "$objects/.config" "$objects/.config.before"; then
        touch -r "$objects/.config.before" "$objects/.config"
    fi
    check_options
}

# The last word on an option is the one that counts: a later fragment may overrule an earlier one.
check_options() {
    local missing=0 name want have
    while read -r name want; do
        have=$(sed -n -e "s/^$name=//p" -e "s/^# $name is not set$/n/p" "$objects/.config")
        [ "${have:-n}" = "$want" ] && continue
        echo "kernel/build.sh: $name is '${have:-n}', the configuration asks for '$want'" >&2
        missing=1
    done < <(sed -n -e 's/^\(CONFIG_[A-Z0-9_]*\)=\(.*\)/\1 \2/p' -e 's/^# \(CONFIG_[A-Z0-9_]*\) is not set$/\1 n/p' "$objects/fragments" |
        awk '{ want[$1] = substr($0, length($1) + 2) } END { for (name in want) print name, want[name] }')
    return "$missing"
}

# One line of make's output an object: enough to say how far it is.
show_progress() {
    local total=$1 built=0 shown=-1 percent line
    while IFS= read -r line; do
        case $line in
        *'  CC  '* | *'  AS  '* | *'  AR  '*)
            built=$((built + 1))
            percent=$((built * 100 / total))
            if [ "$percent" -gt 99 ]; then percent=99; fi
            if [ "$percent" -ge $((shown + 5)) ]; then
                shown=$percent
                echo "kernel: $percent %"
            fi
            ;;
        *error:* | *warning:* | *Error*) echo "$line" >&2 ;;
        esac
    done
    if [ "$built" -gt 500 ]; then echo "$built" > "$objects/object-count"; fi
}

configure "$@"
total=$(cat "$objects/object-count" 2>/dev/null || echo "$typical_objects")
build -j"$(nproc)" bzImage 2>&1 | show_progress "$total"
[ -f "$objects/arch/x86/boot/bzImage" ]
echo "kernel: 100 %"
