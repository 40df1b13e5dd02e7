import {execFile} from 'node:child_process'
import {chmodSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import {promisify} from 'node:util'
import test, {type ExecutionContext} from 'ava'

const run = promisify(execFile)

/** grub-probe as it was seen to be on a wrapped root: it finds the device of a path, and fails for everything else. */
const REAL = `#!/bin/sh
case "$*" in
'--target=device /data') echo /dev/vdb1 ;;
'--target=device '*) echo /dev/mapper/permafrost-vda1 ;;
*/dev/mapper/permafrost-*) echo "cannot find a GRUB drive" >&2; exit 1 ;;
*) echo "asked $*" ;;
esac
`

const cases: readonly (readonly [string, readonly string[], string])[] = [
  ['the device of a path', ['--target=device', '/'], '/dev/vda1\n'],
  ['a device by --device', ['--device', '/dev/mapper/permafrost-vda1', '--target=fs_uuid'], 'asked --device /dev/vda1 --target=fs_uuid\n'],
  ['a name with a slash', ['--device', '/dev/mapper/permafrost-cciss!c0d0p1', '--target=fs'], 'asked --device /dev/cciss/c0d0p1 --target=fs\n'],
  ['a target of a path', ['-t', 'fs', '/boot'], 'asked --target=fs --device /dev/vda1\n'],
  ['other devices as they are', ['--device', '/dev/mapper/system-root', '--target=fs'], 'asked --device /dev/mapper/system-root --target=fs\n'],
  ['paths on other devices as they are', ['-t', 'fs', '/data'], 'asked -t fs /data\n'],
]

for (const [name, words, expected] of cases) {
  test(`asks grub-probe about the partition below: ${name}`, async (t) => {
    const {stdout} = await run('units/grub/grub-probe', words, {env: {...process.env, PERMAFROST_GRUB_PROBE: fakeProbe(t)}})
    t.is(stdout, expected)
  })
}

test('the initramfs takes the name of our device for the partition below', async (t) => {
  const {stdout} = await run('sh', ['-c', '. units/initramfs/functions; permafrost_find_path /dev/mapper/permafrost-vda1; echo "$permafrost_path"'])
  t.is(stdout, '/dev/vda1\n')
})

test('the initramfs takes the last line of an fstab that does not end in a line feed', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-fstab-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  const fstab = path.join(directory, 'fstab')
  writeFileSync(fstab, 'UUID=1 / ext4 defaults 0 1\nUUID=2 /home ext4 defaults 0 2')
  await run('mknod', [path.join(directory, 'disk'), 'b', '7', '0'])
  const script = `. units/initramfs/functions
    permafrost_find_path() { permafrost_path='${directory}/disk'; }
    permafrost_list_fstab '${fstab}'; echo $permafrost_paths`
  const {stdout} = await run('sh', ['-c', script])
  t.is(stdout.trim().split(' ').length, 2)
})

function fakeProbe(t: ExecutionContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-grub-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  const file = path.join(directory, 'grub-probe')
  writeFileSync(file, REAL)
  chmodSync(file, 0o755)
  return file
}
