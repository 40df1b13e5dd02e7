// Every fault point of the service, with failure and with kill: what must be true in the end.
import {setTimeout as delay} from 'node:timers/promises'
import {FAULT_POINTS, type FaultPoint} from '../../service/edge/faults.js'
import {messageOf} from '../lab/errors.js'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import type {Machine} from '../lab/machine.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, memoryComplaints, waitFor, type HeldMemory} from '../lab/workload.js'

export interface FaultCase {
  readonly point: FaultPoint
  readonly kind: 'fail' | 'kill'
}

/** What the service passes on its way to power off, on its way back, and after the resume. */
const FIRST_AFTER_RESUME: FaultPoint = 'resumed'
const FIRST_ON_WAY_BACK: FaultPoint = 'image-given-up'

/** Cases that end in the machine that was to hibernate, in the order of the story. */
export const CASES_HERE: readonly FaultCase[] = both(FAULT_POINTS.filter(point => !isAfterResume(point)))

/** Cases that need a power-off and a resume each. */
export const CASES_AFTER_RESUME: readonly FaultCase[] = both(FAULT_POINTS.filter(isAfterResume))

/** For every test run: when a boot would look at the image, and in the roll-back. */
export const REPRESENTATIVES: readonly FaultCase[] = [
  {point: 'image-valid', kind: 'kill'},
  {point: 'merged', kind: 'fail'}
]

/** The process whose memory and count are looked at. */
export const WITNESS = 'hold'

export function titleOf({point, kind}: FaultCase): string {
  return kind === 'fail' ? `'${point}' fails` : `the daemon is killed at '${point}'`
}

/** Lets it happen in a running machine and gives what does not hold afterwards; the machine goes on. */
export async function provoke(machine: Machine, fault: FaultCase): Promise<string[]> {
  await setFault(machine, settingOf(fault))
  const since = (await inside(machine, ['date', '+%s'])).trim()
  const before = await checkMemory(machine, WITNESS)
  const saved = await hibernate(machine, 'systemctl')
  if (!machine.isRunning)
    return [`the machine did not stay on: ${saved.reason ?? 'it hibernated'}`]
  if (!isAfterResume(fault.point))
    return await complaintsAbout(machine, {fault, since, before})
  return [`the machine stayed on: ${saved.reason ?? ''}`]
}

/** The same for a point of the resumed system. */
export async function provokeAfterResume(machine: Machine, fault: FaultCase): Promise<string[]> {
  await setFault(machine, settingOf(fault))
  const since = (await inside(machine, ['date', '+%s'])).trim()
  const before = await checkMemory(machine, WITNESS)
  const saved = await hibernate(machine, 'systemctl')
  if (!saved.ok)
    return [`it did not hibernate: ${saved.reason ?? ''}`]
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  if (!resumed.ok)
    return [`it did not resume: ${resumed.reason ?? ''}`]
  // With a failure the daemon goes on, and what it left undone is done at its next start.
  if (fault.kind === 'fail')
    await setFault(machine, '')
  return await complaintsAbout(machine, {fault, since, before})
}

export async function setFault(machine: Machine, setting: string): Promise<void> {
  const dropIn = `[Service]\nEnvironment=PERMAFROST_FAULT=${setting}\n`
  const directory = '/run/systemd/system/permafrostd.service.d'
  await insideShell(machine, 'mkdir -p "$1"; printf %s "$2" > "$1/fault.conf"; systemctl daemon-reload', directory, dropIn)
  await attemptInside(machine, ['systemctl', 'reset-failed'])
  await inside(machine, ['systemctl', 'restart', 'permafrostd.service'])
}

function both(points: readonly FaultPoint[]): FaultCase[] {
  return points.flatMap(point => [{point, kind: 'fail' as const}, {point, kind: 'kill' as const}])
}

function isAfterResume(point: FaultPoint): boolean {
  const index = FAULT_POINTS.indexOf(point)
  return index >= FAULT_POINTS.indexOf(FIRST_AFTER_RESUME) && index < FAULT_POINTS.indexOf(FIRST_ON_WAY_BACK)
}

/** A point of the way back is reached by a failure of the save. */
function settingOf({point, kind}: FaultCase): string {
  const isOnWayBack = FAULT_POINTS.indexOf(point) >= FAULT_POINTS.indexOf(FIRST_ON_WAY_BACK)
  return isOnWayBack ? `stream-written,${point}:${kind}` : `${point}:${kind}`
}

interface End {
  readonly fault: FaultCase
  /** Seconds since 1970, by the machine's clock. */
  readonly since: string
  readonly before: HeldMemory
}

async function complaintsAbout(machine: Machine, end: End): Promise<string[]> {
  const complaints: string[] = []
  for (const [what, look] of Object.entries(LOOKS)) {
    try {
      const complaint = await look(machine, end)
      if (complaint !== null)
        complaints.push(`${what}: ${complaint}`)
    } catch (thrown) {
      complaints.push(`${what}: ${messageOf(thrown)}`)
    }
  }
  return complaints
}

type Look = (machine: Machine, end: End) => Promise<string | null>

/** What the next boot does not look at; before the first byte of an image it is what the last one has left. */
const OF_NO_USE: readonly string[] = ['empty', 'resumed', 'aborted']

/**
 * The daemon that was killed, or has put nothing back, comes first: it has to be there again. After a resume everybody runs
 * before it is killed, so that it is there as well where its start anew is still to come.
 */
const LOOKS: Readonly<Record<string, Look>> = {
  'the daemon is there': async (machine, {fault}) => {
    if (fault.kind === 'kill')
      await waitFor(machine, '[ "$(systemctl show --value --property=NRestarts permafrostd.service)" -ge 1 ]')
    await waitFor(machine, 'systemctl is-active --quiet permafrostd.service')
    return null
  },
  'tables restored': async (machine, {fault}) => {
    if (fault.kind === 'fail')
      await attemptInside(machine, ['systemctl', 'restart', 'permafrostd.service'])
    const tables = await inside(machine, ['dmsetup', 'table'])
    const inactive = await insideShell(machine, 'dmsetup info --columns --noheadings --options name,tables_loaded')
    if (/snapshot|permafrost-base|permafrost-cow/.test(tables) || !/^permafrost-vda: 0 \d+ linear /m.test(tables))
      return tables
    return /:Both|Inactive/i.test(inactive) ? inactive : null
  },
  'everybody thawed': async (machine, {before}) => {
    const complaints = await memoryComplaints(machine, WITNESS, before)
    return complaints.length === 0 ? null : complaints.join(', ')
  },
  'image invalid': async machine => {
    const {superblock} = await readSpare(machine.state.disks.find(disk => disk.role === 'spare')?.path ?? '')
    return OF_NO_USE.includes(superblock.state) ? null : superblock.state
  },
  'the journal says why': async (machine, {fault, since}) => {
    const journal = await inside(machine, ['journalctl', '--no-pager', '--output=cat', `--since=@${since}`, '--unit=permafrostd.service', '--unit=systemd-hibernate.service'])
    const reason = fault.kind === 'fail' ? new RegExp(`'${fault.point}'`) : /status=9\/KILL/
    return reason.test(journal) ? null : journal.slice(-1000)
  },
  'usable': async machine => {
    await insideShell(machine, 'date > /var/lib/usable; sync; test -s /var/lib/usable')
    return await canHibernate(machine)
  }
}

/** The daemon answers, and no check finds anything left of before. */
async function canHibernate(machine: Machine): Promise<string | null> {
  const call = [
    'busctl', 'call', 'org.permafrost1', '/org/permafrost1', 'org.permafrost1.Manager', 'CanHibernate'
  ]
  const patience = AbortSignal.timeout(60_000)
  for (;;) {
    const answer = await attemptInside(machine, call)
    if (answer.stdout.startsWith('ss "yes"'))
      return null
    if (patience.aborted)
      return answer.stdout + answer.stderr
    await delay(500)
  }
}
