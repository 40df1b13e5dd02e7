#!/bin/bash
# Brings a source tree to the state of the series: unpacks Debian's kernel source into DIRECTORY
# when it is not there, then takes back and applies patches until exactly those of kernel/series
# are in. A file that comes out as it was keeps its date, so that a build of the tree stays incremental.
#
# usage: kernel/apply.sh DIRECTORY [TARBALL]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tree=${1:?usage: kernel/apply.sh DIRECTORY [TARBALL]}
tarball=${2:-/usr/src/linux-source-6.12.tar.xz}
applied="$tree.applied"
before="$tree.before"

die() {
    echo "kernel/apply.sh: $*" >&2
    exit 1
}

names() {
    sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$here/series"
}

unpack() {
    [ -r "$tarball" ] || die "Cannot read '$tarball': apt-get install linux-source-6.12"
    echo "unpacking $(basename "$tarball")"
    rm -rf "$tree" "$applied" "$tree.unpacking"
    mkdir -p "$tree.unpacking"
    tar -xJf "$tarball" -C "$tree.unpacking" --strip-components=1
    mkdir -p "$applied"
    stat -c '%s %Y' "$tarball" > "$applied/tarball"
    : > "$applied/series"
    mv "$tree.unpacking" "$tree"
}

# How many patches from the start are in the tree exactly as they are in the series.
common() {
    local number=0 name
    while read -r name; do
        [ "$(sed -n "$((number + 1))p" <(names))" = "$name" ] || break
        cmp -s "$here/patches/$name" "$applied/$name" || break
        number=$((number + 1))
    done < "$applied/series"
    echo "$number"
}

take_back() {
    local name
    for name in $(tail -n "+$(($1 + 1))" "$applied/series" | tac); do
        patch -d "$tree" -p1 -R -f -s -F0 --no-backup-if-mismatch < "$applied/$name" || return 1
        sed -i '$d' "$applied/series"
    done
}

apply() {
    local name version
    version=$(cd "$tree" && make -s kernelversion)
    for name in $(names | tail -n "+$(($1 + 1))"); do
        echo "applying $name"
        patch -d "$tree" -p1 -f -s -F0 --no-backup-if-mismatch --dry-run < "$here/patches/$name" ||
            die "Cannot apply '$name' to Linux $version: the series was made for $(cat "$here/BASE" 2>/dev/null || echo 'an unnamed version'); Debian has $(dpkg-query -W -f '${Version}' linux-source-6.12 2>/dev/null || echo 'no package of it here')"
        patch -d "$tree" -p1 -f -s -F0 --no-backup-if-mismatch < "$here/patches/$name"
        cp "$here/patches/$name" "$applied/$name"
        echo "$name" >> "$applied/series"
    done
}

# The files that the patches touch which are in, from the one after $1 on.
touched() {
    local name
    for name in $(tail -n "+$(($1 + 1))" "$applied/series"); do
        sed -n 's,^+++ b/\([^\t]*\).*,\1,p' "$applied/$name"
    done | sort -u
}

keep_dates() {
    local file
    rm -rf "$before"
    for file in $(touched "$1"); do
        if [ -f "$tree/$file" ]; then
            mkdir -p "$before/$(dirname "$file")"
            cp -p "$tree/$file" "$before/$file"
        fi
    done
}

give_dates_back() {
    local file
    for file in $(touched "$1"); do
        if cmp -s "$before/$file" "$tree/$file"; then touch -r "$before/$file" "$tree/$file"; fi
    done
    rm -rf "$before"
}

mkdir -p "$(dirname "$tree")"
[ -f "$here/series" ] || die "Cannot read '$here/series'"
if [ ! -d "$tree" ] || [ "$(cat "$applied/tarball" 2>/dev/null)" != "$(stat -c '%s %Y' "$tarball" 2>/dev/null)" ]; then
    unpack
fi
shared=$(common)
keep_dates "$shared"
if ! take_back "$shared"; then
    unpack
    shared=0
fi
apply "$shared"
give_dates_back "$shared"
