import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import {createInterface} from 'node:readline'
import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {escapesOf, openSerialConsoles} from '../../../service/edge/serial-console.js'

/** What is typed goes through a pseudo-terminal; each case is polled for longer than two looks. */
for (const [name, typed, count] of [
  ['Esc', '\\x1b', 1],
  ['Esc after other keys', 'ls\\x1b', 1],
  ['another key', 'q', 0],
  ['an arrow key', '\\x1b[A', 0],
  ['a function key', '\\x1bOP', 0],
] as const) {
  test(`tells ${count === 1 ? '' : 'nothing '}of ${name} on a serial console`, async (t) => {
    const {terminal, place} = await openTerminal(t)
    let heard = 0
    using consoles = openSerialConsoles(() => { heard += 1 }, place, path.join(place, 'active'))
    t.is(consoles.count, 1)
    await terminal(`type ${typed}`)
    await delay(400)
    t.is(heard, count)
  })
}

for (const [name, looks, expected] of [
  ['a key whose sequence comes in two parts', ['\x1b', '[A', ''], [false, false, false]],
  ['Esc and nothing after it', ['\x1b', '', ''], [false, true, false]],
  ['Esc twice, and then a key in two parts', ['\x1b\x1b', '\x1b', 'OP', ''], [true, true, false, false]],
  ['Esc and another key later', ['\x1b', 'q', ''], [false, true, false]],
] as const) {
  test(`knows ${name}`, (t) => {
    const typed = looks.map((text) => Buffer.from(text, 'latin1'))
    const hears = escapesOf(() => typed.shift() ?? Buffer.alloc(0))
    t.deepEqual(looks.map(() => hears()), expected)
  })
}

test('lets the terminal be as it was, without an echo of what was typed', async (t) => {
  const {terminal, place} = await openTerminal(t)
  const before = await terminal('flags')
  const consoles = openSerialConsoles(() => undefined, place, path.join(place, 'active'))
  t.not(await terminal('flags'), before)
  await terminal('type \\x1b')
  await delay(400)
  consoles[Symbol.dispose]()
  t.is(await terminal('flags'), before)
  t.is(await terminal('echoed'), "b''")
})

test('listens to no virtual terminal, and to nothing that is no terminal', async (t) => {
  const {place} = await openTerminal(t)
  writeFileSync(path.join(place, 'ttyS1'), '\x1b')
  writeFileSync(path.join(place, 'active'), 'tty0 tty1 ttyS1 ttyS7\n')
  using consoles = openSerialConsoles(() => t.fail(), place, path.join(place, 'active'))
  t.is(consoles.count, 0)
  await delay(300)
})

test('a machine without consoles has no serial one', (t) => {
  using consoles = openSerialConsoles(() => undefined, '/nonexistent', '/nonexistent')
  t.is(consoles.count, 0)
})

const PROGRAM = `
import os, select, sys, termios
master, slave = os.openpty()
print(os.ttyname(slave), flush=True)
for line in sys.stdin:
    verb, _, word = line.strip().partition(' ')
    if verb == 'type':
        os.write(master, word.encode().decode('unicode_escape').encode('latin1'))
        print('typed', flush=True)
    elif verb == 'flags':
        print(termios.tcgetattr(slave)[:4], flush=True)
    else:
        ready = select.select([master], [], [], 0)[0]
        print(os.read(master, 100) if ready else b'', flush=True)
`

/** A pseudo-terminal in the place of ttyS0; Node has none of its own. */
async function openTerminal(t: ExecutionContext) {
  const place = mkdtempSync(path.join(tmpdir(), 'permafrost-serial-'))
  const child = spawn('python3', ['-c', PROGRAM], {stdio: ['pipe', 'pipe', 'inherit']})
  t.teardown(() => {
    child.kill('SIGKILL')
    rmSync(place, {recursive: true})
  })
  const answers = createInterface({input: child.stdout})
  const [name]: unknown[] = await once(answers, 'line')
  mkdirSync(place, {recursive: true})
  symlinkSync(String(name), path.join(place, 'ttyS0'))
  writeFileSync(path.join(place, 'active'), 'tty0 ttyS0\n')
  const terminal = async (request: string): Promise<string> => {
    const answer = once(answers, 'line')
    child.stdin.write(`${request}\n`)
    const [line]: unknown[] = await answer
    return String(line)
  }
  return {terminal, place}
}
