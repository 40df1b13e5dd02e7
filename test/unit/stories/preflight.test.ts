import test from 'ava'
import {randomBytes} from 'node:crypto'
import {truncateSync} from 'node:fs'
import {KernelTooOldError} from '../../../service/errors.js'
import {parseTable} from '../../../service/dm/table.js'
import {preflight} from '../../../service/stories/preflight.js'
import {fakeMachine, type FakeMachine, type FakeMachineOptions} from '../fakes/machine.js'

test('every check passes on a machine that is ready, and nothing is changed', async (t) => {
  const fake = await fakeMachine(t)
  const results = await preflight(fake.machine)
  t.deepEqual(results.filter(({passed}) => !passed), [])
  t.deepEqual(
    results.map(({id}) => id),
    ['root', 'kernel', 'hibernation', 'loader', 'next-boot', 'leftovers', 'spare', 'spare-at-boot', 'room', 'file-systems', 'cow', 'memory', 'policy'],
  )
  t.true(results.every(({remedy}) => remedy === ''))
  t.deepEqual(fake.dm.changes, [])
  t.is(await fake.imageState(), 'empty')
})

interface Case {
  readonly name: string
  readonly fails: readonly string[]
  readonly remedy: RegExp
  readonly options?: FakeMachineOptions
  readonly breakIt?: (fake: FakeMachine) => void
}

const MIB = 2 ** 20
const mount = (number: string, type: string, options = 'rw'): FakeMachineOptions => ({
  tree: {texts: {'/proc/self/mountinfo': `36 35 ${number} / /data ${options} - ${type} /dev/x ${options}\n`}},
})

/** 112 MiB in use, 100 of them of processes. */
const ALMOST_FULL = 'MemTotal: 131072 kB\nMemAvailable: 16384 kB\nMemFree: 131072 kB\nAnonPages: 102400 kB\n'

/** A volume in an encrypted device. */
const encryptedSpare = (more: Readonly<Record<string, string>>): FakeMachineOptions => ({
  tree: {
    texts: {
      '/sys/dev/block/254:9/dm/name': 'vg-spare\n',
      '/sys/dev/block/254:9/slaves/dm-8/dev': '254:8\n',
      '/sys/dev/block/254:8/dm/name': 'frost\n',
      '/sys/dev/block/254:8/dm/uuid': 'CRYPT-LUKS2-1-frost\n',
      ...more,
    },
    blockDevices: {spare: {major: 254, minor: 9}},
  },
})

/** As grub-mkconfig writes it. */
const grub = (fallback: string, grubenv = ''): FakeMachineOptions => ({
  tree: {
    texts: {
      '/boot/grub/grub.cfg': [
        'if [ "${next_entry}" ] ; then',
        '   set default="${next_entry}"',
        'else',
        `   set default="${fallback}"`,
        'fi',
        "menuentry 'Debian GNU/Linux' --class debian {",
        '\tlinux\t/boot/vmlinuz-6.13 root=UUID=1 ro  quiet',
        '}',
        "menuentry 'Debian GNU/Linux, with Linux 6.12' {",
        '\tlinux\t/boot/vmlinuz-6.12 root=UUID=1 ro  quiet',
        '}',
      ].join('\n'),
      '/boot/grub/grubenv': `# GRUB Environment Block\n${grubenv}#####\n`,
    },
  },
})

const cases: readonly Case[] = [
  {
    name: 'an unpatched kernel',
    fails: ['kernel'],
    remedy: /boot a Permafrost kernel/,
    breakIt: ({kernel}) => void (kernel.failing = {call: 'queryVersion', error: new KernelTooOldError('6.1')}),
  },
  {
    name: 'a kernel that is locked down',
    fails: ['hibernation'],
    remedy: /locked down \('integrity'\); switch Secure Boot off/,
    options: {tree: {texts: {'/sys/power/state': 'freeze mem\n', '/sys/kernel/security/lockdown': 'none [integrity] confidentiality\n'}}},
  },
  {
    name: 'a kernel that was started with nohibernate',
    fails: ['hibernation'],
    remedy: /started with nohibernate; boot without/,
    options: {tree: {texts: {'/sys/power/state': 'freeze mem\n', '/proc/cmdline': 'root=UUID=1 nohibernate\n'}}},
  },
  {
    name: 'a boot loader that would start a newer kernel',
    fails: ['next-boot'],
    remedy: /GRUB would start '\/boot\/vmlinuz-6\.13' at the next boot.*'6\.12'; reboot into it first/,
    options: grub('0'),
  },
  {
    name: 'a boot that was told not to resume',
    fails: ['loader'],
    remedy: /had 'noresume' on its kernel command line.*boot without it/,
    options: {tree: {texts: {'/proc/cmdline': 'root=UUID=1 noresume quiet\n'}}},
  },
  {
    name: 'a process that holds secret memory',
    fails: ['hibernation'],
    remedy: /'gnupg' \(pid 77\) holds secret memory/,
    options: {
      tree: {texts: {'/sys/power/state': 'freeze mem\n', '/sys/kernel/security/lockdown': '[none] integrity\n'}},
      secretHolders: [{pid: 77, ppid: 1, comm: 'gnupg', exe: null, cgroup: '/', uid: 0, unit: null}],
    },
  },
  {
    name: 'too little memory for what is certainly copied',
    fails: ['memory'],
    remedy: /6 MiB more of free memory are needed for the kernel's copy/,
    options: {tree: {texts: {'/proc/meminfo': 'MemTotal: 131072 kB\nMemAvailable: 65536 kB\nMemFree: 61440 kB\nInactive(file): 4096 kB\nShmem: 32768 kB\nPageTables: 4096 kB\nSUnreclaim: 2048 kB\n'}}},
  },
  {
    name: 'so much in memory that no boot could load it again',
    fails: ['memory'],
    remedy: /Cannot hibernate: 92 MiB more of free memory are needed to load the image at the next boot; end a program/,
    options: {tree: {texts: {'/proc/meminfo': 'MemTotal: 16777216 kB\nMemAvailable: 16744448 kB\nMemFree: 92160 kB\nInactive(file): 10240 kB\n'}}},
  },
  {name: 'no snapshot device', fails: ['hibernation'], remedy: /CONFIG_HIBERNATION/, options: {tree: {missing: ['/dev/snapshot']}}},
  {name: 'no loader', fails: ['loader'], remedy: /update-initramfs/, options: {loaders: {installed: null, built: null}}},
  {
    name: 'an initramfs without the loader',
    fails: ['loader'],
    remedy: /'\/boot\/initrd\.img-6\.12' does not have the loader.*run 'update-initramfs -u -k 6\.12'/,
    options: {loaders: {built: {file: '/boot/initrd.img-6.12', digest: null}}},
  },
  {
    name: 'an initramfs with another loader',
    fails: ['loader'],
    remedy: /has another loader than is installed.*run 'update-initramfs -u -k 6\.12'/,
    options: {loaders: {built: {file: '/boot/initrd.img-6.12', digest: '3c4d'}}},
  },
  {
    name: 'a boot that came from an initramfs without the loader, where none is at hand',
    fails: ['loader'],
    remedy: /this boot's initramfs did not have the loader/,
    options: {loaders: {built: null, booted: null}},
  },
  {
    name: 'leftovers of an earlier hibernation',
    fails: ['leftovers'],
    remedy: /restart permafrostd.service/,
    breakIt: ({dm}) => void dm.add('root-permafrost-base', '', parseTable('0 8 linear 8:1 0', 'x')),
  },
  {name: 'a spare device nobody set up', fails: ['spare', 'room', 'cow'], remedy: /permafrost setup/, options: {isSetUp: false}},
  {
    name: 'a spare device that shrank',
    fails: ['spare', 'room'],
    remedy: /64 MiB are needed/,
    breakIt: ({spare}) => truncateSync(spare.name, 60 * MIB),
  },
  {
    name: 'more memory in use than can fit',
    fails: ['room'],
    remedy: /are needed/,
    options: {tree: {texts: {'/proc/meminfo': 'MemTotal: 8388608 kB\nMemAvailable: 32768 kB\nMemFree: 131072 kB\n'}}},
  },
  {
    name: 'memory that does not compress and is more than can fit',
    fails: ['room'],
    remedy: /103 MiB are needed, it has \d+ MiB; set up a larger one/,
    options: {tree: {texts: {'/proc/meminfo': ALMOST_FULL}}, memorySamples: [randomBytes(32_768), randomBytes(4096)]},
  },
  {
    name: 'an encrypted spare device that only the system itself opens',
    fails: ['spare-at-boot'],
    remedy: /does not open 'frost', so no boot would find the image; .*'initramfs' to 'frost' in '\/etc\/crypttab'.*-k 6\.12/,
    options: encryptedSpare({'/etc/crypttab': '# frost UUID=1 none initramfs\nfrost UUID=1 none luks,discard\n'}),
  },
  {name: 'a plain partition mounted', fails: ['file-systems'], remedy: /'\/data'.*not a device-mapper/, options: mount('8:1', 'ext4')},
  {name: 'a type whose changes cannot be told', fails: ['file-systems'], remedy: /type 'ntfs3'/, options: mount('254:0', 'ntfs3')},
]

for (const {name, fails, remedy, options, breakIt} of cases) {
  test(`${name} fails '${fails.join("', '")}' and says what to do`, async (t) => {
    const fake = await fakeMachine(t, options)
    breakIt?.(fake)
    const failed = (await preflight(fake.machine)).filter(({passed}) => !passed)
    t.deepEqual(failed.map(({id}) => id), fails)
    t.regex(failed[0]?.remedy ?? '', remedy)
  })
}

for (const [what, more] of [
  ['the initramfs is told to open', {'/etc/crypttab': 'frost\tUUID=1  none luks,initramfs\n'}],
  ['root is on, too', {'/sys/dev/block/254:0/slaves/dm-8/dev': '254:8\n'}],
] as const) {
  test(`a spare device in an encrypted device that ${what} passes`, async (t) => {
    const fake = await fakeMachine(t, encryptedSpare(more))
    t.deepEqual((await preflight(fake.machine)).filter(({passed}) => !passed), [])
  })
}

for (const [what, options] of [
  ['a saved choice', grub('${saved_entry}')],
  ['a choice for the next boot only', grub('0', 'next_entry=1>2\n')],
] as const) {
  test(`what GRUB would start is not guessed with ${what}`, async (t) => {
    const fake = await fakeMachine(t, options)
    t.true((await preflight(fake.machine)).every(({passed}) => passed))
  })
}

for (const type of ['squashfs', 'btrfs']) {
  test(`${type} is welcome when it is mounted read-only`, async (t) => {
    const fake = await fakeMachine(t, mount('254:0', type, 'ro'))
    t.true((await preflight(fake.machine)).every(({passed}) => passed))
  })
}

test('a boot that came from an initramfs with the loader is enough where none is at hand', async (t) => {
  const fake = await fakeMachine(t, {loaders: {built: null}})
  t.true((await preflight(fake.machine)).every(({passed}) => passed))
})

test('memory that compresses well fits where it would not as it is', async (t) => {
  const samples = [Buffer.alloc(32_768), Buffer.alloc(32_768, 'the same again, ')]
  const fake = await fakeMachine(t, {tree: {texts: {'/proc/meminfo': ALMOST_FULL}}, memorySamples: samples})
  t.deepEqual((await preflight(fake.machine)).filter(({passed}) => !passed), [])
})

test('nobody\'s memory is looked at where all of it would fit as it is', async (t) => {
  const fake = await fakeMachine(t)
  const sampleMemory = (): Promise<never> => Promise.reject(new Error('looked'))
  t.true((await preflight({...fake.machine, sampleMemory})).every(({passed}) => passed))
})

test('a file system whose journal is on another device fails, and says so', async (t) => {
  const fake = await fakeMachine(t)
  const superblock = Buffer.alloc(2048)
  superblock.writeUInt32LE(0x4, 1024 + 0x5c)
  const blocks = {
    ...fake.machine.blocks,
    openForReading: async () => ({
      read: async (offset: number, length: number) => superblock.subarray(offset, offset + length),
      [Symbol.asyncDispose]: async () => {},
    }),
  }
  const failed = (await preflight({...fake.machine, blocks})).filter(({passed}) => !passed)
  t.deepEqual(failed.map(({id}) => id), ['file-systems'])
  t.regex(failed[0]?.remedy ?? '', /the journal of '\/' is on another device/)
})

test('a policy that cannot be applied fails by its own words', async (t) => {
  const fake = await fakeMachine(t)
  const findNeeded = (): never => {
    throw new Error('who is that')
  }
  const failed = (await preflight({...fake.machine, findNeeded})).filter(({passed}) => !passed)
  t.deepEqual(failed, [{id: 'policy', title: 'The policy can be applied', passed: false, remedy: 'Cannot hibernate: who is that'}])
})
