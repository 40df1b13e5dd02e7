import {existsSync} from 'node:fs'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import {fsck} from '../lab/outside.js'
import {useOwnInitramfs} from '../lab/own-initramfs.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {run} from '../lab/tool.js'
import {cut, down} from '../lab/verbs/down.js'
import {askAndWait} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {
  appendedLines, checkMemory, diaryComplaints, firstBreak, holdMemory, kernelTrouble, memoryComplaints, startPayload,
  waitFor, type HeldMemory
} from '../lab/workload.js'
import {casesOfRun} from '../lib/cases.js'

/** Torvalds' stream: an image out of the running machine into a pipeline, and back at the next boot. */
const DIARY = '/var/lib/diary'
const ARCHIVE = '/dev/disk/by-id/virtio-archive'
const MANAGER = ['org.permafrost1', '/org/permafrost1', 'org.permafrost1.Manager']
const UNTIL_SAVING = `until [ "$(busctl get-property ${MANAGER.join(' ')} State)" = 's "saving"' ]; do sleep 0.1; done`
const IMAGE = `permafrost snapshot --to - | gzip -1 > ${ARCHIVE}`

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('stream', {memoryMib: 768, spareBytes: 2 ** 30, disks: [{name: 'archive', bytes: 2 ** 30, type: 'none'}]})
  await insideShell(machine, `
    mkdir -p /etc/permafrost/resume.d
    printf '#!/bin/sh\\n# Needs: /bin/gzip\\nexec gzip -dc ${ARCHIVE}\\n' > /etc/permafrost/resume.d/archive
    chmod +x /etc/permafrost/resume.d/archive`)
  await useOwnInitramfs(machine)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

interface Case {
  readonly does: string
  readonly holds: (t: ExecutionContext) => Promise<void>
}

const MERGES: Case = {does: 'the machine goes on for good after a merge, with what was written while the image came out, and that image is refused', holds: async t => {
  await startWork()
  const before = await checkMemory(machine, 'hold')
  const linesBefore = (await appendedLines(machine, DIARY)).length
  await insideShell(machine, `permafrost snapshot --to - --then merge | (sleep 2; gzip -1 > ${ARCHIVE})`)
  t.regex(await insideShell(machine, `gzip -dc ${ARCHIVE} | permafrost image verify -`), /^verified +true$/m)
  await isAsBefore(t, before)
  t.true((await appendedLines(machine, DIARY)).length > linesBefore + 10)
  t.regex(await inside(machine, ['permafrost', 'status']), /Merged/)
  await inside(machine, ['sync'])
  await down(machine, {isWiped: false})
  await startsAnew(t, null)
  t.regex(await refusalOfStream(), /the spare device of this image says 'aborted', so it may not be resumed/)
}}

const READER_GOES: Case = {does: 'the machine goes on as it is when the reader goes, fails, or the daemon is killed', holds: async t => {
  await startWork()
  const before = await checkMemory(machine, 'hold')
  for (const [consumer, reason] of [
    ['head -c 5M > /dev/null', /whoever read it has gone/],
    [`(dd bs=64k count=99 of=${ARCHIVE} 2> /dev/null)`, /whoever read it has gone/],
    [`(${UNTIL_SAVING}; permafrost abort; cat > /dev/null)`, /it was aborted/],
    [`(${UNTIL_SAVING}; systemctl kill --signal=KILL permafrostd.service; cat > /dev/null)`, /ended in the middle/]
  ] as const) {
    const {status, stderr} = await attemptInside(machine, ['bash', '-c', `set -o pipefail; permafrost snapshot --to - | ${consumer}`])
    t.not(status, 0, consumer)
    t.regex(stderr, reason, consumer)
    await waitFor(machine, `[ "$(busctl get-property ${MANAGER.join(' ')} State)" = 's "idle"' ]`)
    await isAsBefore(t, before)
  }
}}

const SLICE_FILLS: Case = {does: 'the machine goes on when what runs on fills a slice', holds: async t => {
  const before = await checkMemory(machine, 'hold')
  const {status, stderr} = await attemptInside(machine, ['bash', '-c', `set -o pipefail
    permafrost snapshot --to - | (dd if=/dev/urandom of=/var/tmp/much bs=1M count=1500 conv=fsync 2> /dev/null; cat > /dev/null)`],
  {timeoutMs: 400_000})
  t.not(status, 0)
  t.regex(stderr, /too much is written to/)
  await waitFor(machine, `[ "$(busctl get-property ${MANAGER.join(' ')} State)" = 's "idle"' ]`)
  await inside(machine, ['rm', '-f', '/var/tmp/much'])
  await isAsBefore(t, before)
}}

const POWER_CUT: Case = {does: 'a power cut while the image comes out loses nothing that was on the disk by then', holds: async t => {
  await insideShell(machine, `systemd-run --quiet --unit=cut-me sh -c 'permafrost snapshot --to - | (read -r line; echo written > /var/lib/late; sync; touch /run/late; sleep 1000)'
    until [ -e /run/late ]; do sleep 0.1; done`)
  await cut(machine)
  await startsAnew(t, /finished the interrupted roll-back of the file system on/)
  t.is(await inside(machine, ['cat', '/var/lib/late']), 'written\n')
  t.is(firstBreak(await appendedLines(machine, DIARY)), null)
}}

const HALTS: Case = {does: 'a snapshot into gzip on a raw disk switches the machine off, and the next boot goes on at its instant', holds: async t => {
  await startWork()
  const before = await checkMemory(machine, 'hold')
  await halt(t)
  await run('cp', ['--sparse=always', machine.disk('archive').path, kept()])
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  await isAsBefore(t, before)
  t.regex(await inside(machine, ['permafrost', 'image', 'show']), /^state +resumed$/m)
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
}}

const BROUGHT_AGAIN: Case = {does: 'the same stream, brought again, is refused, and every file system is clean', holds: async t => {
  t.true(existsSync(kept()))
  await down(machine, {isWiped: false})
  const check = await fsck(machine.disk('root'))
  t.true(check.isClean, check.output)
  await run('cp', ['--sparse=always', kept(), machine.disk('archive').path])
  await startsAnew(t, null)
  t.regex(await refusalOfStream(), /the spare device of this image says 'resumed', so it may not be resumed/)
}}

const NOT_BROUGHT_BACK: Case = {does: 'an image that is not brought back, or with a bit wrong, is an ordinary boot that says why, and never resumed after', holds: async t => {
  await halt(t)
  const bytes = (await readSpare(machine.disk('spare').path)).superblock.storedBytes
  // Somewhere in the middle of what gzip wrote.
  await run('dd', ['if=/dev/urandom', `of=${machine.disk('archive').path}`, 'bs=1', 'count=64', `seek=${Math.floor(bytes / 4)}`, 'conv=notrunc', 'status=none'])
  await startsAnew(t, /not resuming: .*(digest|ends before|impossible|decompressed)[\s\S]*not resuming: the image of '.*' went elsewhere as a stream and was not brought back/)
  t.regex(await inside(machine, ['permafrost', 'image', 'show']), /^state +aborted$/m)
}}

for (const {does, holds} of casesOfRun([HALTS], [BROUGHT_AGAIN, MERGES, READER_GOES, SLICE_FILLS, POWER_CUT, NOT_BROUGHT_BACK]))
  test.serial(does, holds)

/** What runs meanwhile, from its beginning. */
async function startWork(): Promise<void> {
  await insideShell(machine, `systemctl stop diary hold 2> /dev/null || :; systemctl reset-failed diary hold 2> /dev/null || :; rm -f ${DIARY}`)
  await startPayload(machine, 'diary', 'append', DIARY)
  await holdMemory(machine, 'hold', 60)
}

async function halt(t: ExecutionContext): Promise<void> {
  const reason = await askAndWait(machine, ['sh', '-c', IMAGE], 'systemd-hibernate.service')
  t.is(reason, null)
  machine.update({qemu: null})
  t.is((await readSpare(machine.disk('spare').path)).superblock.state, 'away')
}

/** What the loader says of the stream on the archive, with everything else as it is. */
async function refusalOfStream(): Promise<string> {
  const {stderr} = await attemptInside(machine, ['sh', '-c', `gzip -dc ${ARCHIVE} | /usr/lib/permafrost/permafrost-loader resume --from -`])
  return stderr
}

async function startsAnew(t: ExecutionContext, reason: RegExp | null): Promise<void> {
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  const journal = await inside(machine, ['journalctl', '-b', '--no-pager', '--output=cat', '-t', 'permafrost'])
  if (reason !== null)
    t.regex(journal, reason)
  await attemptInside(machine, ['systemctl', 'is-system-running', '--wait'])
}

/** Tables, memory, and what writes goes on writing. */
async function isAsBefore(t: ExecutionContext, before: HeldMemory): Promise<void> {
  const tables = await inside(machine, ['dmsetup', 'table'])
  t.notRegex(tables, /snapshot|permafrost-base|permafrost-cow/)
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  t.deepEqual(await diaryComplaints(machine, DIARY), [])
}

function kept(): string {
  return join(machine.directory, 'archive-kept')
}
