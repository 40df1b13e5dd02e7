#!/bin/bash
# Installs the loader and what takes it into the initramfs below a root
# directory, / when none is given. The initramfs itself is the caller's to make.
#
#   units/initramfs/install.sh [ROOT]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
root=${1:-}
tools=$root/usr/share/initramfs-tools

objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
make --silent --directory "$repository/kernel/loader" O="$objects"

install -D -m 755 "$objects/permafrost-loader" "$root/usr/lib/permafrost/permafrost-loader"
install -D -m 755 "$here/hook" "$tools/hooks/permafrost"
install -D -m 644 "$here/conf-hook" "$tools/conf-hooks.d/permafrost"
install -D -m 644 "$here/functions" "$tools/scripts/permafrost"
install -D -m 755 "$here/init-top" "$tools/scripts/init-top/permafrost"
install -D -m 755 "$here/local-premount" "$tools/scripts/local-premount/permafrost"
install -D -m 755 "$here/local-bottom" "$tools/scripts/local-bottom/permafrost"
install -D -m 644 "$here/../udev/56-permafrost.rules" "$root/usr/lib/udev/rules.d/56-permafrost.rules"
