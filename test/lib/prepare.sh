#!/bin/bash
# Sees to what demo, tests and bench need on a bare Debian 12 with Node: Debian packages through
# apt-get, and node_modules as package-lock.json names them. Says what it does; does nothing when
# all is there. Arguments are Debian packages that the caller needs beside these.
set -euo pipefail

cd "$(dirname "$0")/../.."

packages=(
    mmdebstrap qemu-system-x86 e2fsprogs xfsprogs btrfs-progs dosfstools mtools zstd kmod util-linux cpio dmsetup
    gcc libc6-dev make patch bc bison flex libelf-dev libssl-dev ccache xz-utils
    linux-source-6.12 debian-archive-keyring dbus polkitd python3-minimal man-db libxxhash-dev liblz4-dev
    "$@"
)

say() {
    echo "prepare: $*" >&2
}

missing_packages() {
    dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null |
        sed -n 's/ installed$//p' | sort | comm -13 - <(printf '%s\n' "${packages[@]}" | sort)
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        say "Cannot install ${missing[*]}: only root can; apt-get install ${missing[*]}"
        exit 3
    fi
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if ! apt-get install -y -q --no-install-recommends "${missing[@]}" >&2; then
        say "the package lists are missing or old: apt-get update"
        apt-get update -q >&2
        apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
    fi
}

# npm writes node_modules/.package-lock.json last; a newer package-lock.json means other versions.
install_modules() {
    [ node_modules/.package-lock.json -nt package-lock.json ] && return 0
    say "installing the packages of package-lock.json (npm ci)"
    npm ci --no-audit --no-fund --ignore-scripts >&2
    touch node_modules/.package-lock.json
}

install_packages
install_modules
