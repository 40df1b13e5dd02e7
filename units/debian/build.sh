#!/bin/bash
# Makes permafrost_VERSION_amd64.deb. The same commit gives the same package, byte by byte;
# SOURCE_DATE_EPOCH from the environment dates it.
#
#   units/debian/build.sh OUT
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
mkdir -p "${1:?usage: units/debian/build.sh OUT}"
out=$(cd "$1" && pwd)

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date +%s)}
export LC_ALL=C.UTF-8 TZ=UTC
umask 022
version=$(node --print 'JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).version' "$repository/package.json")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
doc=$root/usr/share/doc/permafrost

say() {
    echo "package: $*"
}

# Which package has the headers and static libraries that went into the loader, in the form of Built-Using.
built_using() {
    dpkg-query -W -f '${source:Package} (= ${source:Version})\n' libc6-dev liblz4-dev libxxhash-dev | sort -u | paste -sd, | sed 's/,/, /g'
}

# What the one compiled library among the packages is linked with.
shared_libraries() {
    mkdir -p "$work/shlibs/debian"
    printf 'Source: permafrost\n\nPackage: permafrost\nArchitecture: amd64\n' > "$work/shlibs/debian/control"
    (cd "$work/shlibs" && dpkg-shlibdeps -O --ignore-missing-info "$root/usr/lib/permafrost/node_modules/@koromix/koffi-linux-x64/linux_x64/koffi.node" 2> /dev/null) |
        sed -n 's/^shlibs:Depends=//p'
}

# Debian's form of CHANGELOG.md: a version's points, with the heading inside it before them, in lines of
# its length.
changelog() {
    awk -v newest="$version" -v date="$(date -R -d "@$SOURCE_DATE_EPOCH")" '
        function point(   words, count, i, line) {
            count = split(text, words, / +/)
            line = "  *"
            for (i = 1; i <= count; i++) {
                if (length(line) + 1 + length(words[i]) > 78) { print line; line = "   " }
                line = line " " words[i]
            }
            if (count) print line
            text = ""
        }
        function finish() { point(); if (version) printf "\n -- Permafrost <permafrost@localhost>  %s\n\n", date }
        /^## / {
            finish(); heading = ""
            version = $2 == "Unreleased" ? newest : $2
            printf "permafrost (%s) unstable; urgency=medium\n\n", version
        }
        /^### / { point(); heading = substr($0, 5) ": " }
        /^- / { point(); text = heading substr($0, 3) }
        /^  [^ ]/ { text = text " " substr($0, 3) }
        END { finish() }' "$repository/CHANGELOG.md"
}

put_documentation() {
    install -D -m 644 "$here/copyright" "$doc/copyright"
    changelog | gzip -9n > "$doc/changelog.gz"
    install -D -m 644 "$repository/service/image/FORMAT.md" "$doc/FORMAT.md"
    install -D -m 644 "$here/lintian-overrides" "$root/usr/share/lintian/overrides/permafrost"
    find "$root/usr/share/man" -type f -exec gzip -9n {} +
}

# postinst enables the daemon, by the administrator's leave.
drop_enablement() {
    rm -rf "$root/etc/systemd"
}

put_control() {
    local script
    mkdir -p "$root/DEBIAN"
    for script in postinst prerm postrm; do
        install -m 755 "$here/$script" "$root/DEBIAN/$script"
    done
    (cd "$root" && find etc -type f | sort | sed 's|^|/|') > "$root/DEBIAN/conffiles"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
    sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f1)/" \
        -e "s/@SHLIBS@/$(shared_libraries)/" -e "s/@BUILT_USING@/$(built_using)/" "$here/control" > "$root/DEBIAN/control"
}

say "compiling"
mkdir -p "$root"
bash "$repository/units/stage.sh" "$root"
drop_enablement
mkdir -p "$doc"
put_documentation
put_control
say "packing"
dpkg-deb --root-owner-group --build "$root" "$out/permafrost_${version}_amd64.deb" > /dev/null
say "$out/permafrost_${version}_amd64.deb"
