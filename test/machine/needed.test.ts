import test from 'ava'
import {insideShell} from '../lab/execute.js'
import {copyOnWriteArea, findInDisk, fsck} from '../lab/outside.js'
import {scratchMachine} from '../lab/scratch.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {
  appendedLines, askPayload, firstBreak, kernelLogOf, kernelTrouble, lineOnDisk, linesAfter, startPayload, startTellingPayload, waitFor
} from '../lab/workload.js'

const POLICY = '[Needed]\nUnit=needed.service\nWhen=always\nReason=A test\n'

test.serial('a daemon of the policy keeps running during the save, another does not, and nothing of it stays', async t => {
  await using machine = await scratchMachine('needed', {memoryMib: 768})
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf', POLICY)
  await startPayload(machine, 'needed', 'append', '/var/lib/needed', 'mark-of-needed')
  await startPayload(machine, 'frozen', 'append', '/var/lib/frozen', 'mark-of-frozen')
  await waitFor(machine, '[ "$(wc -l < /var/lib/needed)" -ge 10 ] && [ "$(wc -l < /var/lib/frozen)" -ge 10 ]')

  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const root = machine.state.disks.find(disk => disk.role === 'root')
  const spare = machine.state.disks.find(disk => disk.role === 'spare')
  if (root === undefined || spare === undefined)
    return t.fail('the machine has lost its disks')

  const area = await copyOnWriteArea(spare)
  const neededOnRoot = await findInDisk(root.path, lineOnDisk('mark-of-needed'))
  const written = linesAfter(neededOnRoot, await findInDisk(spare.path, lineOnDisk('mark-of-needed'), area))
  t.true(written.size > 0, 'the needed daemon wrote nothing during the save')
  t.deepEqual([...written].filter(line => neededOnRoot.has(line)), [])
  const frozenOnRoot = await findInDisk(root.path, lineOnDisk('mark-of-frozen'))
  const frozenOnSpare = await findInDisk(spare.path, lineOnDisk('mark-of-frozen'), area)
  t.deepEqual([...linesAfter(frozenOnRoot, frozenOnSpare)], [], 'the frozen daemon wrote during the save')
  const check = await fsck(root)
  t.true(check.isClean, check.output)

  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  for (const name of ['needed', 'frozen']) {
    const length = (await appendedLines(machine, `/var/lib/${name}`)).length
    await waitFor(machine, `[ "$(wc -l < /var/lib/${name})" -gt ${length} ]`)
  }
  const needed = await appendedLines(machine, '/var/lib/needed')
  t.is(firstBreak(needed), null)
  t.is(firstBreak(await appendedLines(machine, '/var/lib/frozen')), null)
  t.deepEqual(needed.filter(line => written.has(line)), [])
})

test.serial('shared memory that a daemon of the policy writes to during the save is as it was at the snapshot', async t => {
  await using machine = await scratchMachine('stirred')
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf', POLICY)
  await startTellingPayload(machine, 'needed', 'stir', '64')
  const before = await askPayload(machine, 'needed')

  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  const after = await askPayload(machine, 'needed')
  t.is(after['bad'], 0)
  t.true((after['count'] ?? 0) > (before['count'] ?? 0))
  t.deepEqual(kernelTrouble(await kernelLogOf(machine)), [])
})
