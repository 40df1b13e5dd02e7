#!/bin/bash
# Makes a git tree to change patches in: Debian's source as the commit "base", then one commit for each
# patch of the series. After a rebase refresh.sh writes the patches anew from it.
#
# usage: kernel/tree.sh DIRECTORY [TARBALL]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tree=${1:?usage: kernel/tree.sh DIRECTORY [TARBALL]}
tarball=${2:-/usr/src/linux-source-6.12.tar.xz}

die() {
    echo "kernel/tree.sh: $*" >&2
    exit 1
}

[ ! -e "$tree" ] || die "Cannot make '$tree': it is there already"
[ -r "$tarball" ] || [ $# -gt 1 ] || bash "$here/../test/lib/prepare.sh"
[ -r "$tarball" ] || die "Cannot read '$tarball': apt-get install linux-source-6.12"

echo "unpacking $(basename "$tarball")"
mkdir -p "$tree"
tar -xJf "$tarball" -C "$tree" --strip-components=1
cd "$tree"
git init -q -b permafrost
git config user.name >/dev/null || git config user.name permafrost
git config user.email >/dev/null || git config user.email permafrost@localhost
echo "committing Debian's source"
# Debian's .gitignore leaves out what it does not list.
git add -A -f
git commit -q -m "Debian's $(basename "$tarball" .tar.xz)"
git tag base
sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/series" | while read -r name; do
    echo "applying $name"
    git am -q --keep-cr "$here/patches/$name"
done
