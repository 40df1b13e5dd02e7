#!/bin/bash
# Installs Permafrost below a root directory, and enables what must be enabled.
#
#   units/install.sh DESTDIR                             what is in units/ alone
#   units/install.sh DESTDIR DIST NODE_MODULES [LOADER]  the program as well: DIST is what
#       'npm run build' made, NODE_MODULES holds the packages it needs at run time, and LOADER
#       is the initramfs program where units/initramfs/install.sh is not run as well
set -euo pipefail

usage() {
  echo "usage: $0 DESTDIR [DIST NODE_MODULES [LOADER]]" >&2
  exit 2
}

[ $# -eq 1 ] || [ $# -eq 3 ] || [ $# -eq 4 ] || usage
units=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$units")
root=${1%/}

put() { # MODE SOURCE TARGET
  install -D -m "$1" "$2" "$root$3"
}

install_program() { # DIST NODE_MODULES
  local home=$root/usr/lib/permafrost
  install -d "$home/dm-tables" "$home/node_modules"
  cp -r "$1/service" "$home/"
  cp -r "$2/." "$home/node_modules/"
  cp -r "$repository/dm-tables/." "$home/dm-tables/"
  # Says that the compiled files are modules.
  put 644 "$repository/package.json" /usr/lib/permafrost/package.json
  put 644 "$repository/service/bus/org.permafrost1.xml" /usr/lib/permafrost/service/bus/org.permafrost1.xml
}

install_documentation() {
  local page
  for page in "$units"/man/*.[1-8]; do
    put 644 "$page" "/usr/share/man/man${page##*.}/${page##*/}"
  done
  put 644 "$units/completions/permafrost.bash" /usr/share/bash-completion/completions/permafrost
  put 644 "$units/completions/_permafrost" /usr/share/zsh/vendor-completions/_permafrost
}

install_units() {
  local system=/usr/lib/systemd
  put 755 "$units/permafrost" /usr/bin/permafrost
  put 755 "$units/sleep" /usr/lib/permafrost/sleep
  put 644 "$units/systemd/permafrostd.service" $system/system/permafrostd.service
  put 644 "$units/systemd/permafrost-merge.service" $system/system/permafrost-merge.service
  put 644 "$units/systemd/permafrost-receive.service" $system/system/permafrost-receive.service
  # Nobody is asked whether: it runs only where a file system would be damaged without.
  install -d "$root$system/system/sysinit.target.wants"
  ln -sfn ../permafrost-merge.service "$root$system/system/sysinit.target.wants/permafrost-merge.service"
  local service
  for service in systemd-hibernate systemd-logind; do
    put 644 "$units/systemd/$service.service.d-50-permafrost.conf" $system/system/$service.service.d/50-permafrost.conf
  done
  put 644 "$units/systemd/sleep.conf.d-50-permafrost.conf" $system/sleep.conf.d/50-permafrost.conf
  put 644 "$units/dbus/org.permafrost1.service" /usr/share/dbus-1/system-services/org.permafrost1.service
  put 644 "$units/dbus/org.permafrost1.conf" /usr/share/dbus-1/system.d/org.permafrost1.conf
  put 644 "$units/polkit/org.permafrost1.policy" /usr/share/polkit-1/actions/org.permafrost1.policy
  install -d "$root/etc/permafrost/permafrost.conf.d" "$root/etc/permafrost/policy.d"
  put 755 "$units/grub/grub-probe" /usr/lib/permafrost/grub-probe
  put 644 "$units/grub/permafrost.cfg" /etc/default/grub.d/permafrost.cfg
  install_documentation
  # What the administrator wrote stays.
  [ -e "$root/etc/permafrost/permafrost.conf" ] ||
    put 644 "$units/configuration/permafrost.conf" /etc/permafrost/permafrost.conf
  local file
  for file in "$units"/policy.d/*.conf; do
    put 644 "$file" "/usr/lib/permafrost/policy.d/${file##*/}"
  done
}

enable_units() {
  local wants=$root/etc/systemd/system/multi-user.target.wants
  install -d "$wants"
  ln -sfn /usr/lib/systemd/system/permafrostd.service "$wants/permafrostd.service"
}

[ $# -lt 3 ] || install_program "$2" "$3"
[ $# -lt 4 ] || put 755 "$4" /usr/lib/permafrost/permafrost-loader
install_units
enable_units
