# Runs in a machine of the laboratory, with the packages' tree on the disk "source": partitions the
# disk "target" and installs Debian on it, with the tools of that tree.
#
# $1: plain, or crypt for /boot on a partition and root on LVM in LUKS
layout=$1
target=/dev/disk/by-id/virtio-target
tools=/run/tools
root=/run/tools/mnt
mkdir -p "$tools"
mount -o ro /dev/disk/by-id/virtio-source "$tools"
for directory in dev sys proc run; do mount --rbind /$directory "$tools/$directory" 2> /dev/null || mount --bind /$directory "$tools/$directory"; done
mount -t tmpfs tmpfs "$tools/tmp"
mount -t tmpfs tmpfs "$tools/etc/lvm" 2> /dev/null || true
mount -t tmpfs tmpfs "$root"
disk=$(readlink -f "$target")
in_tools() { chroot "$tools" "$@"; }

mount_all() { # below $root/system: the new system with what grub-install and update-initramfs look at
    local directory
    for directory in dev proc sys run; do
        mount --rbind /$directory "$root/system/$directory"
    done
}

plain() {
    printf 'label: dos\nstart=2048, type=83, bootable\n' | in_tools sfdisk -q --wipe always "$disk"
    udevadm settle
    in_tools mkfs.ext4 -q -L debian "${disk}1"
    mkdir "$root/system"
    mount "${disk}1" "$root/system"
    cp -a "$tools.copy/." "$root/system/"
    echo "UUID=$(blkid -s UUID -o value "${disk}1") / ext4 errors=remount-ro 0 1" > "$root/system/etc/fstab"
    mount_all
}

# The key lies in the initramfs, on the plain /boot: nobody is there to type a passphrase.
crypt() {
    printf 'label: dos\nstart=2048, size=512M, type=83, bootable\ntype=83\n' | in_tools sfdisk -q --wipe always "$disk"
    udevadm settle
    head -c 64 /dev/urandom > "$root/root.key"
    in_tools cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "${disk}2" /mnt/root.key
    in_tools cryptsetup open --key-file /mnt/root.key "${disk}2" system_crypt
    in_tools pvcreate -q /dev/mapper/system_crypt
    in_tools vgcreate -q system /dev/mapper/system_crypt
    # The laboratory has no rules of LVM for udev, and LVM would wait for the link it wipes through.
    in_tools lvcreate -q -y -Zn -Wn -L 3G -n root system
    in_tools mkfs.ext4 -q -L debian /dev/mapper/system-root
    in_tools mkfs.ext4 -q -L boot "${disk}1"
    mkdir "$root/system"
    mount /dev/mapper/system-root "$root/system"
    mkdir "$root/system/boot"
    mount "${disk}1" "$root/system/boot"
    cp -a "$tools.copy/." "$root/system/"
    {
        echo "/dev/mapper/system-root / ext4 errors=remount-ro 0 1"
        echo "UUID=$(blkid -s UUID -o value "${disk}1") /boot ext4 defaults 0 2"
    } > "$root/system/etc/fstab"
    install -D -m 600 "$root/root.key" "$root/system/etc/keys/root.key"
    echo "system_crypt UUID=$(blkid -s UUID -o value "${disk}2") /etc/keys/root.key luks" > "$root/system/etc/crypttab"
    echo 'KEYFILE_PATTERN="/etc/keys/*.key"' >> "$root/system/etc/cryptsetup-initramfs/conf-hook"
    echo 'UMASK=0077' >> "$root/system/etc/initramfs-tools/initramfs.conf"
    mount_all
    chroot "$root/system" update-initramfs -u -k all
}

mkdir -p "$tools.copy"
mount -o ro /dev/disk/by-id/virtio-source "$tools.copy"
"$layout"
chroot "$root/system" grub-install "$disk"
chroot "$root/system" update-grub
# What Debian's installer calls a targeted initramfs; a generic one takes minutes in an emulated machine.
echo 'MODULES=dep' > "$root/system/etc/initramfs-tools/conf.d/targeted"
: > "$root/system/etc/machine-id"
sync
