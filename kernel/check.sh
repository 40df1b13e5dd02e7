#!/bin/bash
# Checks the series as its reviewers would: for each patch checkpatch --strict, and the objects it touches
# built with its options on and off, without a word; for the whole, kernel-doc, W=1 and sparse, of which
# only what Debian's source does not say is told. Takes about a quarter of an hour on two cores.
#
# usage: kernel/check.sh TREE      (made by tree.sh; what is committed there counts. Objects go to TREE.check)
# Its last line is "N patches, N complaints"; the exit status is 1 when there are any.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "${1:?usage: kernel/check.sh TREE}" && pwd)
work=$tree.check
source=$work/linux
patches=0
complaints=0

# What sparse says wrongly, see README.md.
sparse_is_wrong='^kernel/power/(in_place|keep_folios)\.c: warning: context imbalance in '

compiler=gcc
if command -v ccache > /dev/null; then compiler="ccache gcc"; fi
export CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1

prepare() {
    bash "$here/../test/lib/prepare.sh" sparse
    mkdir -p "$work"
    [ -d "$source" ] || git -C "$tree" worktree add -q --detach "$source" base
}

go_to() {
    git -C "$source" checkout -q --detach "$1"
}

# build VARIANT ARGUMENT…: a variant is a directory of objects with a configuration of its own.
build() {
    local variant=$1
    shift
    make -s -j"$(nproc)" -C "$source" O="$work/$variant" CC="$compiler" HOSTCC="$compiler" LOCALVERSION= "$@"
}

configure() {
    local variant=$1
    mkdir -p "$work/$variant"
    case $variant in
    on) cat "$here/config/base.config" <(echo CONFIG_SNAPSHOT_KERNEL_CHECK=y) ;;
    off) grep -Ev '^CONFIG_(FREEZE_PROCESSES|SNAPSHOT_KERNEL)=' "$here/config/base.config" ;;
    esac > "$work/$variant.config"
    build "$variant" KCONFIG_ALLCONFIG="$work/$variant.config" allnoconfig > /dev/null
    build "$variant" prepare > /dev/null
}

# C files of the kernel itself that differ between two commits.
sources() {
    git -C "$source" diff --name-only "$1" "$2" -- '*.c' ':!tools'
}

# Of the files named on standard input, those that the variant's configuration has.
wanted() {
    local variant=$1 file option
    while read -r file; do
        [ -f "$source/$file" ] || continue
        option=$(sed -nE "s/^obj-\\$\((CONFIG_\w+)\)\s*\+=.*\b$(basename "$file" .c)\.o\b.*/\1/p" "$source/$(dirname "$file")/Makefile")
        [ -n "$option" ] && ! grep -q "^$option=[ym]" "$work/$variant/.config" || echo "$file"
    done
}

# What is said while the files named on standard input are compiled.
compile() {
    local variant=$1 files
    configure "$variant"
    mapfile -t files < <(wanted "$variant" | sed 's/\.c$/.o/')
    [ ${#files[@]} -gt 0 ] || return 0
    build "$variant" "${@:2}" "${files[@]}" 2>&1 || echo "make ended with status $?"
}

report() {
    local title=$1 said=$2
    [ -n "$said" ] || return 0
    complaints=$((complaints + 1))
    printf '%s:\n%s\n' "$title" "$(head -n 20 <<< "$said")"
}

check_patch() {
    local commit=$1 name before=$complaints
    name=$(git -C "$source" log -1 --format=%s "$commit")
    go_to "$commit"
    report "$name: checkpatch" "$(git -C "$source" format-patch -1 --stdout "$commit" |
        "$source/scripts/checkpatch.pl" --strict --no-tree -q - || true)"
    report "$name: options on" "$(sources "$commit^" "$commit" | compile on)"
    report "$name: options off" "$(sources "$commit^" "$commit" | compile off)"
    patches=$((patches + 1))
    if [ "$complaints" = "$before" ]; then echo "$name: ok"; fi
}

# Warnings without their line numbers, sorted; and that make failed.
told() {
    sed -nE -e '/^make ended with status/p' -e "s#^(\.\./linux/|$source/)?([^ :]+):[0-9]+(:[0-9]+)?: (.*)#\2: \4#p" | sort
}

kernel_doc() {
    git -C "$source" diff --name-only base permafrost -- '*.[ch]' ':!tools' | (cd "$source" && while read -r file; do
        [ ! -f "$file" ] || scripts/kernel-doc -Wall -none "$file" 2>&1 || true
    done)
}

# Each way of looking at the whole: a name, then the command that says what it sees.
look() {
    case $1 in
    W=1) sources base permafrost | compile on W=1 ;;
    sparse) sources base permafrost | compile on C=2 ;;
    kernel-doc) kernel_doc ;;
    esac
}

check_whole() {
    local way
    for way in W=1 sparse kernel-doc; do
        go_to base
        look "$way" | told > "$work/before"
        go_to permafrost
        look "$way" | told > "$work/after"
        report "the whole series: $way" "$(comm -13 "$work/before" "$work/after" | grep -Ev "$sparse_is_wrong" || true)"
    done
}

prepare
while read -r commit; do
    check_patch "$commit"
done < <(git -C "$tree" rev-list --reverse base..permafrost)
check_whole
echo "$patches patches, $complaints complaints"
[ "$complaints" = 0 ]
