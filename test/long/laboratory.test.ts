import {randomBytes} from 'node:crypto'
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {SilenceError} from '../lab/errors.js'
import {attemptInside, inside} from '../lab/execute.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {pull, push} from '../lab/verbs/copy.js'
import {down} from '../lab/verbs/down.js'
import {resume} from '../lab/verbs/resume.js'
import {stock} from '../lab/verbs/stock.js'
import {checkMemory, diaryComplaints, holdMemory, kernelTrouble, memoryComplaints, startPayload} from '../lab/workload.js'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('laboratory', {
    memoryMib: 512,
    swapBytes: 2 ** 30,
    disks: [{name: 'data', bytes: 320 * 2 ** 20, type: 'xfs'}]
  })
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('a command gives its output and its exit status', async t => {
  const outcome = await attemptInside(machine, ['sh', '-c', 'printf out; printf err >&2; exit 7'])
  t.deepEqual(outcome, {status: 7, stdout: 'out', stderr: 'err'})
})

test.serial('a command that takes too long is killed in the machine', async t => {
  const outcome = await attemptInside(machine, ['sh', '-c', 'sleep 71 & sleep 72'], {timeoutMs: 500})
  t.is(outcome.status, 124)
  const left = await attemptInside(machine, ['pgrep', '-f', 'sleep 7[12]'])
  t.is(left.stdout, '')
})

test.serial('of a machine that hangs one is told what its kernel is at', async t => {
  await using hanging = await scratchMachine('hanging', {memoryMib: 512})
  const agent = (await inside(hanging, ['systemctl', 'show', '--property=MainPID', '--value', 'permafrost-lab-agent'])).trim()
  await inside(hanging, ['systemd-run', '--quiet', 'sh', '-c', `sleep 1; kill -STOP ${agent}`])
  const answer = attemptInside(hanging, ['sleep', '60'], {timeoutMs: 3000, graceMs: 2000})
  const error = await t.throwsAsync(answer, {instanceOf: SilenceError})
  t.regex(error.message, /has not answered for 5 s to 'sleep 60'.*sysrq: Show Blocked State.*sysrq: Show backtrace of all active CPUs/s)
})

test.serial('more commands run at once than there are ports', async t => {
  const numbers = ['1', '2', '3', '4', '5', '6', '7']
  const outputs = await Promise.all(numbers.map(async number => await inside(machine, ['sh', '-c', `sleep 0.5; echo ${number}`])))
  t.deepEqual(outputs.map(text => text.trim()), numbers)
})

test.serial('no command is lost when sessions follow one another quickly', async t => {
  const worker = async (id: number) => {
    for (let round = 0; round < 20; round++)
      t.is(await inside(machine, ['echo', `${id} ${round}`]), `${id} ${round}\n`)
  }
  await Promise.all([1, 2, 3, 4, 5].map(worker))
})

test.serial('a file comes back as it went in', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-copy-'))
  const bytes = randomBytes(3_000_000)
  writeFileSync(join(directory, 'sent'), bytes)
  await push(machine, join(directory, 'sent'), '/root/file')
  await pull(machine, '/root/file', join(directory, 'received'))
  t.true(readFileSync(join(directory, 'received')).equals(bytes))
  rmSync(directory, {recursive: true})
})

test.serial('the disks asked for are mounted', async t => {
  t.is((await inside(machine, ['stat', '-f', '-c', '%T', '/mnt/data'])).trim(), 'xfs')
})

test.serial('the agent and all processes survive hibernation through the stock path', async t => {
  await startPayload(machine, 'diary', 'append', '/mnt/data/diary')
  await holdMemory(machine, 'hold', 150)
  const before = await checkMemory(machine, 'hold')
  const saved = await stock(machine, 'lz4')
  t.true(saved.ok, saved.reason ?? '')
  t.false(machine.isRunning)
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  t.deepEqual(await diaryComplaints(machine, '/mnt/data/diary'), [])
})

test.serial('file systems are clean and the kernel has not complained in the end', async t => {
  await down(machine, {isWiped: false})
  for (const disk of machine.state.disks.filter(one => one.role === 'root' || one.role === 'data')) {
    const result = await fsck(disk)
    t.true(result.isClean, result.output)
  }
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
})
