#!/bin/bash
# Packs the kernel of a source tree as a .deb, by the kernel's own packaging (mkdebian, builddeb).
#
# usage: kernel/package.sh DIRECTORY OUT VERSION [CONFIG]
#
#   DIRECTORY/linux  the patched source, see apply.sh
#   OUT              where the .deb goes
#   VERSION          of the package, behind the kernel's own: 6.12.117-VERSION. It is also what
#                    uname -v shows behind '#', so it must differ where the kernel does.
#   CONFIG           a configuration such as /boot/config-6.1.0-42-amd64, to which config/required.config
#                    is added; without it what build.sh built in DIRECTORY/o is packed
#
# The same input gives the same package, byte by byte: its date is that which the kernel itself shows.
set -euo pipefail

usage="usage: kernel/package.sh DIRECTORY OUT VERSION [CONFIG]"
here=$(cd "$(dirname "$0")" && pwd)
directory=$(cd "${1:?$usage}" && pwd)
mkdir -p "${2:?$usage}"
out=$(cd "$2" && pwd)
version=${3:?$usage}
config=${4:-}
source=$directory/linux
objects=$directory/o${config:+-config}

# As in build.sh: other settings would build everything again.
export CCACHE_BASEDIR=$directory CCACHE_NOHASHDIR=1
export KBUILD_BUILD_TIMESTAMP='2025-01-01 00:00:00 UTC' KBUILD_BUILD_USER=permafrost KBUILD_BUILD_HOST=laboratory
compiler=gcc
if command -v ccache > /dev/null; then compiler="ccache gcc"; fi

SOURCE_DATE_EPOCH=$(date -d "$KBUILD_BUILD_TIMESTAMP" +%s)
export SOURCE_DATE_EPOCH
export DEBFULLNAME=Permafrost DEBEMAIL=permafrost@localhost KDEB_CHANGELOG_DIST=unstable
# Headers are for modules of others, and nobody has any for this kernel.
export DEB_BUILD_PROFILES=pkg.linux-upstream.nokernelheaders

build() {
    make -C "$source" O="$objects" CC="$compiler" HOSTCC="$compiler" LOCALVERSION= "$@"
}

# Debian's own certificates and debugging information are not at hand, and the latter takes most of the time.
configure() {
    mkdir -p "$objects"
    cat "$config" "$here/config/required.config" > "$objects/.config"
    build -s olddefconfig
    local wanted missing=0
    while read -r wanted; do
        grep -qxF "$wanted" "$objects/.config" && continue
        echo "kernel/package.sh: the configuration does not take '$wanted'" >&2
        missing=1
    done < <(grep '^CONFIG_.*=' "$here/config/required.config")
    [ "$missing" = 0 ] || return 1
    # mkdebian takes the name of the release from there, and leaves it empty where there is none.
    build -s include/config/kernel.release
}

# The control files are the kernel's own but for the date, which is now, and what other packages ask for.
write_control() {
    KDEB_PKGVERSION=$(build -s kernelversion)-$version \
        build -s run-command KBUILD_RUN_COMMAND="$source/scripts/package/mkdebian"
    local date
    date=$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
    sed -i "s/^\( -- .*>  \).*/\1$date/" "$objects/debian/changelog"
    sed -i '/^Package: linux-image-[^ ]*[^g]$/,/^$/ s/^\(Description: .*\)/Provides: linux-image, permafrost-kernel-abi-1\n\1/' \
        "$objects/debian/control"
}

show_progress() {
    local built=0 line
    while IFS= read -r line; do
        case $line in
        *'  CC  '* | *'  AS  '* | *'  CC [M]  '* | *'  AS [M]  '*)
            built=$((built + 1))
            if [ $((built % 500)) -eq 0 ]; then echo "kernel: $built objects built"; fi
            ;;
        *'  LD  '*vmlinux | *'  INSTALL '* | *'building package'*) echo "kernel: ${line#"${line%%[![:space:]]*}"}" ;;
        *error:* | *Error* | dpkg-buildpackage:\ error*) echo "$line" >&2 ;;
        esac
    done
}

# What 'make bindeb-pkg' does after it has written debian/ anew.
pack() {
    local words
    words=$(printf '%q' "$compiler")
    (
        cd "$objects"
        export MAKEFLAGS=" -j$(nproc) -- CC=$words HOSTCC=$words LOCALVERSION=" KBUILD_VERBOSE=0
        dpkg-buildpackage --build=binary --no-pre-clean --unsigned-changes --no-check-builddeps \
            -R'make -f debian/rules' -j1 -aamd64 2>&1
    ) | show_progress
}

[ -z "$config" ] || configure
[ -f "$objects/.config" ] || { echo "kernel/package.sh: nothing is built in '$objects'; kernel/build.sh does that" >&2; exit 2; }
write_control
rm -f "$directory"/linux-*_amd64.deb
pack
mv "$directory"/linux-image-*_amd64.deb "$out/"
# Headers for the C library are Debian's to give.
rm -f "$directory"/linux-libc-dev_*.deb "$directory"/linux-upstream_*
