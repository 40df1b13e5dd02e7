#!/bin/bash
# Writes kernel/patches and kernel/series anew from the commits of a git tree of the kernel, so that
# a patch is edited by rebasing the tree and never by hand.
#
# usage: kernel/refresh.sh TREE [BASE_COMMIT]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tree=${1:?usage: kernel/refresh.sh TREE [BASE_COMMIT]}
base=${2:-base}

rm -f "$here"/patches/*.patch
git -C "$tree" format-patch -q -o "$here/patches" --no-signature --zero-commit -N "$base"

# Each group of the series, and the word its patches' subjects begin with.
{
    echo "# Applied in this order, without fuzz, to the version in kernel/BASE."
    group=""
    for patch in "$here"/patches/*.patch; do
        case "$(sed -n 's/^Subject: \[PATCH\] //p' "$patch" | head -1)" in
        selftests*) now="Tests" ;;
        Documentation*) now="Documentation" ;;
        x86*) now=$group ;;
        "PM: hold"* | *"hibernate: split"* | *"hibernate: map free"* | *"hibernate: look at a word"*) now="Preparation" ;;
        *freeze_processes*) now="freeze_processes()" ;;
        *) now="snapshot_kernel()" ;;
        esac
        [ "$now" = "$group" ] || printf '\n# %s\n' "$now"
        group=$now
        basename "$patch"
    done
} > "$here/series"
