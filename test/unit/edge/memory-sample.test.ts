import {type ChildProcess, spawn} from 'node:child_process'
import {once} from 'node:events'
import {readFileSync} from 'node:fs'
import test, {type ExecutionContext} from 'ava'
import {sampleMemory} from '../../../service/edge/memory-sample.js'

const PAGE_BYTES = 4096

test('samples what memory is made of, in the parts it is made of', async (t) => {
  const child = await start(t, 'python3', ['-c', `
import os, time
full = b"\\xa5" * (96 << 20)
noise = os.urandom(32 << 20)
print("ready", flush=True)
time.sleep(600)`])
  const blocks = await sampleMemory([pidOf(child)])
  t.true(blocks.length > 30, `${blocks.length} blocks`)
  t.true(blocks.every(({length}) => length > 0 && length <= 8 * PAGE_BYTES))
  const full = blocks.filter((block) => block.every((byte) => byte === 0xa5)).length / blocks.length
  t.true(full > 0.6 && full < 0.9, `${full} of the blocks are of what takes three quarters`)
})

test('finds no page in memory that was never touched', async (t) => {
  const child = await start(t, 'python3', ['-c', `
import time
unused = bytearray(1 << 30)
print("ready", flush=True)
time.sleep(600)`])
  const before = residentKib(child)
  await sampleMemory([pidOf(child)])
  t.true(residentKib(child) - before < 256)
})

test('leaves out who is gone', async (t) => {
  t.deepEqual(await sampleMemory([4_000_000]), [])
})

test('leaves alone who sleeps in the kernel, and does not wait for it', async (t) => {
  // vfork(2), by its number on x86-64: the parent sleeps until the child has called exec or ended.
  const child = await start(t, 'perl', ['-e', '$| = 1; print "ready\\n"; sleep 600 if syscall(58) == 0'])
  await until(() => /\) D /.test(readFileSync(`/proc/${pidOf(child)}/stat`, 'latin1')))
  t.deepEqual(await sampleMemory([pidOf(child)]), [])
})

async function start(t: ExecutionContext, command: string, words: readonly string[]): Promise<ChildProcess> {
  // In a group of its own, so that a child of the child ends with it.
  const child = spawn(command, words, {stdio: ['ignore', 'pipe', 'inherit'], detached: true})
  t.teardown(() => process.kill(-pidOf(child), 'SIGKILL'))
  if (child.stdout === null) throw new Error('no output')
  await once(child.stdout, 'data')
  return child
}

function pidOf({pid}: ChildProcess): number {
  if (pid === undefined) throw new Error('not started')
  return pid
}

function residentKib(child: ChildProcess): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pidOf(child)}/status`, 'utf8'))?.[1])
}

/** A state of another process, of which nobody tells: polled for ten seconds at most. */
async function until(holds: () => boolean): Promise<void> {
  const deadline = AbortSignal.timeout(10_000)
  while (!holds()) {
    deadline.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
