#!/bin/bash
# Puts all of Permafrost but the kernel below a root directory: compiles the program, takes the packages
# it needs at run time, builds the loader, and installs what is in units/. The .deb and the laboratory's
# root file system are made with it. Needs node_modules ('npm ci') and what the loader's Makefile names.
#
#   units/stage.sh ROOT
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$here")
root=${1:?usage: units/stage.sh ROOT}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {
    node "$repository/node_modules/typescript/bin/tsc" --project "$repository/tsconfig.json" --noCheck --outDir "$work/dist"
}

# Those that package-lock.json calls optional stay out: usocket, which nobody calls, would bring eighty
# packages and a compiler's work. koffi's binary is called so as well, since there is one for each platform.
production_packages() {
    node --print 'Object.entries(JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).packages)
        .filter(([path, about]) => path !== "" && !about.dev && !about.optional && !about.devOptional)
        .map(([path]) => path.replace(/^node_modules\//, "")).join("\n")' "$repository/package-lock.json"
    echo @koromix/koffi-linux-x64
}

# Neither documentation, nor sources to compile, nor what is for other C libraries.
copy_packages() {
    local name
    for name in $(production_packages); do
        mkdir -p "$work/modules/$(dirname "$name")"
        cp -R "$repository/node_modules/$name" "$work/modules/$name"
    done
    rm -rf "$work"/modules/koffi/{vendor,doc,lib,cnoke.cjs} "$work/modules/@koromix/koffi-linux-x64/musl_x64"
    find "$work/modules" \( -type d \( -name test -o -name 'test-*' -o -name examples -o -name bench \) -o -name '.[!.]*' \) -prune -exec rm -rf {} +
    find "$work/modules" -type f ! -name '*.js' ! -name '*.cjs' ! -name '*.mjs' ! -name '*.json' ! -name '*.node' ! -iname '*licen[cs]e*' ! -iname 'copying*' -delete
    find "$work/modules" -type d -empty -delete
}

compile
copy_packages
bash "$here/install.sh" "$root" "$work/dist" "$work/modules"
bash "$here/initramfs/install.sh" "$root"
