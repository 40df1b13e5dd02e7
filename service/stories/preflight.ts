import {findEncryptions, findFileSystems, type MountedFileSystem} from '../dm/filesystems.js'
import {SLICE_BYTES_MINIMUM, sliceBytes} from '../dm/prepare.js'
import {findLeftovers} from '../dm/restore.js'
import {
  causeText,
  CheckFailedError,
  KernelTooOldError,
  NotRootError,
  RefusedError,
  SpareTooSmallError,
  TargetError,
  TooLittleMemoryError,
  UnmappedFileSystemError,
} from '../errors.js'
import type {Configuration} from '../configuration/configuration.js'
import type {Files} from '../edge/files.js'
import {kernelOfNextBoot} from '../edge/grub.js'
import {LOADER} from '../edge/loaders.js'
import {canFingerprint, findElsewhere} from '../image/fingerprint.js'
import {ABI_VERSION, SNAPSHOT_DEVICES_MAXIMUM} from '../kernel-api/abi.js'
import type {Machine} from '../machine.js'
import type {ProcessEntry} from '../policy/process-table.js'
import type {SinkSummary} from '../sinks/sink.js'
import type {TargetSummary} from '../sinks/stream-target.js'
import type {HibernateRequest} from './hibernate.js'
import {estimateImageBytes, type MemoryInUse} from './image-size.js'
import {FOR_THE_COPY, loaderBytes, TO_LOAD} from './loadable.js'
import {readMeminfo} from './meminfo.js'

export interface CheckResult {
  readonly id: string
  readonly title: string
  readonly passed: boolean
  /** What is wrong and what to do about it; empty when passed. */
  readonly remedy: string
}

/** Looks at everything a hibernation needs. All checks are made, and nothing is changed by any. */
export async function preflight(machine: Machine): Promise<readonly CheckResult[]> {
  const verdicts = await judge(machine)
  return verdicts.map(({id, title, refusal}) => ({
    id,
    title,
    passed: refusal === null,
    remedy: refusal === null ? '' : refusal.message,
  }))
}

/** The first step of every story. Throws the refusal of the first check that does not pass. */
export async function refuseUnlessReady({onState}: HibernateRequest, machine: Machine): Promise<void> {
  onState('checking')
  const refusal = (await judge(machine)).find((verdict) => verdict.refusal !== null)?.refusal
  if (refusal !== undefined && refusal !== null) throw refusal
  machine.faults.hit('preflight-passed')
}

/**
 * A spare device that has less than this part of the image's estimated size is refused: a sample is a sample. One that
 * only may be too small is not, since the save then ends in a roll-back and nothing is lost.
 */
const CERTAIN_PART = 0.8

interface Check {
  readonly id: string
  readonly title: string
  /** Whether there is anything to look at. */
  readonly isAsked?: (machine: Machine) => boolean
  /** Throws when it does not pass. */
  readonly look: (machine: Machine, findings: Findings) => Promise<void> | void
}

/** What several checks ask for, found out once: the spare device lets only one look at it at a time. */
interface Findings {
  readonly sink: Promise<SinkSummary>
  readonly target: Promise<TargetSummary | null>
  readonly fileSystems: Promise<readonly MountedFileSystem[]>
}

interface Verdict extends Check {
  readonly refusal: RefusedError | null
}

const CHECKS: readonly Check[] = [
  {id: 'root', title: 'The service runs as root', look: checkRoot},
  {id: 'kernel', title: 'The kernel can freeze processes and take snapshots', look: checkKernel},
  {id: 'hibernation', title: 'The kernel offers hibernation', look: checkHibernation},
  {id: 'loader', title: 'The loader is in the initramfs', look: checkLoader},
  {id: 'next-boot', title: 'The next boot starts this kernel', look: checkNextBoot},
  {id: 'leftovers', title: 'Nothing is left of an earlier hibernation', look: checkLeftovers},
  {id: 'spare', title: 'The spare device is there and set up', look: async (_, findings) => void (await findings.sink)},
  {id: 'spare-at-boot', title: 'The next boot finds the spare device', look: checkSpareAtBoot},
  {id: 'target', title: 'Whoever takes the image is there', isAsked: ({target}) => target !== null, look: async (_, findings) => void (await findings.target)},
  {id: 'way-back', title: 'The next boot can get the image back', isAsked: ({configuration}) => configuration.target !== null, look: checkWayBack},
  {id: 'room', title: 'There is room for the image', look: checkRoom},
  {id: 'file-systems', title: 'Every mounted file system can be snapshotted', look: checkFileSystems},
  {id: 'cow', title: 'There is room for what is written while saving', look: checkCow},
  {id: 'memory', title: 'There is memory for the kernel\'s copy', look: checkMemory},
  {id: 'policy', title: 'The policy can be applied', look: ({findNeeded}) => void findNeeded()},
]

async function judge(machine: Machine): Promise<readonly Verdict[]> {
  const target = machine.target?.inspect() ?? Promise.resolve(null)
  const findings = {sink: machine.sink.inspect(), target, fileSystems: findFileSystems(machine.files, machine.dm)}
  // The checks that ask hear of a failure; that nobody has asked yet must not end the process.
  await Promise.allSettled(Object.values(findings))
  return Promise.all(
    CHECKS.filter(({isAsked}) => isAsked?.(machine) ?? true).map(async (check): Promise<Verdict> => {
      try {
        await check.look(machine, findings)
        return {...check, refusal: null}
      } catch (error) {
        const refusal = error instanceof RefusedError ? error : new CheckFailedError(check.id, causeText(error), {cause: error})
        return {...check, refusal}
      }
    }),
  )
}

function checkRoot({host}: Machine): void {
  if (!host.isRoot) throw new NotRootError('hibernate')
}

function checkKernel({syscalls, host}: Machine): void {
  if (syscalls.queryVersion() !== ABI_VERSION) throw new KernelTooOldError(host.kernel.release)
}

function checkHibernation({files, findSecretHolders}: Machine): void {
  const states = files.readText('/sys/power/state') ?? ''
  if (!states.trim().split(/\s+/).includes('disk')) {
    throw new CheckFailedError('hibernation', `the kernel offers no hibernation ('disk' is not in '/sys/power/state'): ${whyNot(files, findSecretHolders())}`)
  }
  if (files.realPath('/dev/snapshot') === null) {
    throw new CheckFailedError('hibernation', "'/dev/snapshot' is missing; the kernel needs CONFIG_HIBERNATION and CONFIG_HIBERNATION_SNAPSHOT_DEV")
  }
}

/** hibernation_available() in kernel/power/hibernate.c names the causes. */
function whyNot(files: Files, secretHolders: readonly ProcessEntry[]): string {
  const names = secretHolders.map(({comm, pid}) => `'${comm}' (pid ${pid})`).join(', ')
  if (names !== '') return `${names} holds secret memory (memfd_secret); end it first`
  if (/(^|\s)(nohibernate|hibernate=no)(\s|$)/.test(files.readText('/proc/cmdline') ?? '')) {
    return 'it was started with nohibernate; boot without'
  }
  const lockdown = /\[(\w+)\]/.exec(files.readText('/sys/kernel/security/lockdown') ?? '')?.[1] ?? 'none'
  if (lockdown !== 'none') return `it is locked down ('${lockdown}'); switch Secure Boot off or boot with lockdown=none`
  return 'it is locked down, or built without'
}

function checkLoader({findLoaders, files, host}: Machine): void {
  const {installed, built, booted} = findLoaders()
  const refuse = (remedy: string): never => {
    throw new CheckFailedError('loader', remedy)
  }
  if (/(^|\s)noresume(\s|$)/.test(files.readText('/proc/cmdline') ?? '')) {
    refuse("this boot had 'noresume' on its kernel command line, and the next one would not resume with it either; boot without it")
  }
  if (installed === null) refuse(`'${LOADER}' is missing, so no boot would resume; install it and run 'update-initramfs -u'`)
  if (built !== null && built.digest !== installed) {
    const fault = built.digest === null ? 'does not have the loader' : 'has another loader than is installed'
    refuse(`'${built.file}' ${fault}, so a boot with it might not resume; run 'update-initramfs -u -k ${host.kernel.release}'`)
  }
  if (built === null && booted !== installed) {
    refuse(`this boot's initramfs did not have the loader that is installed; make one that has it, and see that the boot loader uses it`)
  }
}

/** Another kernel refuses the image, and its memory is lost. */
function checkNextBoot({files, host}: Machine): void {
  const next = kernelOfNextBoot(files)
  const {release} = host.kernel
  if (next === null || next.endsWith(`/vmlinuz-${release}`)) return
  throw new CheckFailedError('next-boot', `GRUB would start '${next}' at the next boot, which cannot resume what runs on '${release}'; reboot into it first`)
}

function checkWayBack({configuration: {target}, findWayBackMarks, host}: Machine): void {
  const refuse = (remedy: string): never => {
    throw new CheckFailedError('way-back', remedy)
  }
  const {built, tlsDigest, programs} = findWayBackMarks()
  if (target?.kind === 'command') {
    if (programs.length === 0) refuse("no program in '/etc/permafrost/resume.d' that only root may write to would bring the image back; see permafrostd(8)")
    return
  }
  if (target?.kind === 'tls' && tlsDigest === null) refuse("'/etc/permafrost/tls' has not all of 'ca.pem', 'certificate.pem' and 'key.pem'")
  // Made elsewhere, it cannot be looked at.
  if (built === null) return
  const update = `run 'update-initramfs -u -k ${host.kernel.release}'`
  if (!built.words.includes('net')) refuse(`'${built.file}' may lack the drivers of this machine's network cards; ${update}`)
  if (target?.kind === 'tls' && !built.words.includes(`tls=${String(tlsDigest)}`)) {
    refuse(`'${built.file}' has not the certificates of '/etc/permafrost/tls', or not 'openssl'; ${update}`)
  }
}

/**
 * The loader looks at devices that are there in the initramfs. Volumes are activated there; what is encrypted is opened only if
 * root or /usr needs it or crypttab(5) says 'initramfs' (cryptsetup-initramfs) or 'x-initrd.attach' (systemd).
 */
async function checkSpareAtBoot({files, configuration: {spareDevice}, host}: Machine, findings: Findings): Promise<void> {
  const spare = spareDevice === null ? null : files.blockDevice(spareDevice)
  if (spare === null) return
  const mounted = (await findings.fileSystems).filter(({mountPoint}) => ['/', '/usr'].includes(mountPoint))
  const opened = [...mounted.flatMap(({number}) => findEncryptions(number, files)), ...namesOpenedInInitramfs(files)]
  const closed = findEncryptions(spare, files).find((name) => !opened.includes(name))
  if (closed === undefined) return
  throw new CheckFailedError(
    'spare-at-boot',
    `the initramfs does not open '${closed}', so no boot would find the image; install cryptsetup-initramfs, add the option 'initramfs' to '${closed}' in '/etc/crypttab', and run 'update-initramfs -u -k ${host.kernel.release}'`,
  )
}

/** crypttab(5): name, device, key file and options, with blanks between. */
function namesOpenedInInitramfs(files: Files): readonly string[] {
  const lines = (files.readText('/etc/crypttab') ?? '').split('\n').map((line) => line.trim().split(/\s+/))
  return lines.filter(([name = '#', , , options = '']) => !name.startsWith('#') && options.split(',').some((option) => ['initramfs', 'x-initrd.attach'].includes(option))).flatMap(([name]) => name ?? [])
}

async function checkLeftovers({dm, mergeNotes, sink, configuration}: Machine, findings: Findings): Promise<void> {
  // Without a spare device there are no notes; another check says so.
  const isSpareThere = await findings.sink.then(() => true, () => false)
  const [waiting] = (isSpareThere ? await mergeNotes.readMerges() : null)?.merges ?? []
  if (waiting !== undefined) {
    throw new CheckFailedError(
      'leftovers',
      `'${configuration.spareDevice ?? sink.name}' still has what was written to '${waiting.path}' during a hibernation that a power cut ended; attach that device and boot again, or give it up with 'permafrost setup --force'`,
    )
  }
  const [leftover] = await findLeftovers(dm)
  if (leftover === undefined) return
  throw new CheckFailedError(
    'leftovers',
    `device '${leftover.live}' still has '${leftover.devices.join("' and '")}' of an earlier hibernation; restart permafrostd.service`,
  )
}

async function checkRoom({sink, files, lz4, sampleMemory, configuration}: Machine, findings: Findings): Promise<void> {
  const [{imageAreaBytes}, target] = await Promise.all([findings.sink, findings.target])
  const roomBytes = target?.freeBytes ?? imageAreaBytes
  const inUse = readMemoryInUse(files.readText('/proc/meminfo') ?? '', configuration)
  // Where everything would fit as it is, nothing has to be estimated.
  if (roomBytes >= inUse.anonymousBytes + inUse.otherBytes) return
  const neededBytes = await estimateImageBytes(inUse, await sampleMemory(), lz4)
  if (roomBytes >= neededBytes * CERTAIN_PART) return
  if (target === null) throw new SpareTooSmallError(sink.name, neededBytes, roomBytes)
  throw new TargetError(sink.name, `${Math.ceil(neededBytes / 2 ** 20)} MiB are needed, it has ${Math.floor(roomBytes / 2 ** 20)} MiB; make room there`)
}

async function checkFileSystems({blocks}: Machine, findings: Findings): Promise<void> {
  const fileSystems = await findings.fileSystems
  if (fileSystems.length > SNAPSHOT_DEVICES_MAXIMUM) {
    throw new CheckFailedError('file-systems', `${fileSystems.length} file systems are mounted, ${SNAPSHOT_DEVICES_MAXIMUM} can be snapshotted; unmount some`)
  }
  for (const {mapping, mountPoint, type, isReadOnly, number} of fileSystems) {
    if (mapping.kind === 'unmapped') throw new UnmappedFileSystemError(mountPoint, `${mapping.device}: ${mapping.reason}`)
    if (isReadOnly) continue
    await using source = await blocks.openForReading(number)
    const elsewhere = await findElsewhere({source, fileSystemType: type})
    if (elsewhere !== null) {
      throw new CheckFailedError('file-systems', `the ${elsewhere} of '${mountPoint}' is on another device, which would not be snapshotted with it; unmount it or mount it read-only`)
    }
    if (canFingerprint(type)) continue
    throw new CheckFailedError(
      'file-systems',
      `'${mountPoint}' has a file system of type '${type}', of which a change before the resume could not be told; unmount it or mount it read-only`,
    )
  }
}

/**
 * What is copied for certain, because it is changed in place, has to fit beside what stays. The kernel copies
 * more, and gives up by itself where that does not fit; but then everybody has been frozen for it.
 */
function checkMemory({files, configuration}: Machine): void {
  const read = readMeminfo(files.readText('/proc/meminfo') ?? '')
  const sum = (fields: readonly string[]): number => fields.reduce((bytes, field) => bytes + read(field), 0)
  const copiedBytes = sum(['SUnreclaim', 'KernelStack', 'PageTables'])
  // Not MemAvailable: it leaves reserves that may be touched here.
  const atMostBytes = sum(['MemFree', 'Active(file)', 'Inactive(file)', 'SReclaimable', 'SwapFree'])
  const missingBytes = copiedBytes + configuration.overheadBytes - atMostBytes
  if (missingBytes > 0) throw new TooLittleMemoryError(missingBytes, FOR_THE_COPY)
  // What is not free now will be in the image, and a boot has to load it.
  const missingToLoadBytes = loaderBytes(read('MemTotal')) - atMostBytes
  if (missingToLoadBytes > 0) throw new TooLittleMemoryError(missingToLoadBytes, TO_LOAD)
}

async function checkCow({cow}: Machine, findings: Findings): Promise<void> {
  const [area, fileSystems] = await Promise.all([cow.area(), findings.fileSystems])
  if (sliceBytes(area.bytes, fileSystems.length) >= SLICE_BYTES_MINIMUM) return
  throw new CheckFailedError(
    'cow',
    `the spare device leaves less than 4 MiB for what each of ${fileSystems.length} file systems writes while saving; set up a larger one`,
  )
}

/** What is saved: all that is not free, but for page cache that is dropped first. */
function readMemoryInUse(meminfo: string, {dropsPageCache}: Configuration): MemoryInUse {
  const read = readMeminfo(meminfo)
  const usedBytes = read('MemTotal') - read(dropsPageCache ? 'MemAvailable' : 'MemFree')
  const anonymousBytes = Math.min(read('AnonPages'), usedBytes)
  return {anonymousBytes, otherBytes: Math.max(0, usedBytes - anonymousBytes)}
}
