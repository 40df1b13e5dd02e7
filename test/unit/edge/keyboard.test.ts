import {appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {openKeyboards} from '../../../service/edge/keyboard.js'

const EV_SYN = 0
const EV_KEY = 1
const KEY_1 = 2
const KEY_ESC = 1

test('tells of Esc when it is pressed', async (t) => {
  const {press, heard} = keyboard(t)
  press(EV_KEY, KEY_1, 1)
  press(EV_SYN, 0, 0)
  press(EV_KEY, KEY_ESC, 1)
  await delay(400)
  t.is(heard(), 1)
})

for (const [name, type, code, value] of [
  ['another key is pressed', EV_KEY, KEY_1, 1],
  ['Esc is let go', EV_KEY, KEY_ESC, 0],
  ['Esc repeats', EV_KEY, KEY_ESC, 2],
  ['something else has its number', EV_SYN, KEY_ESC, 1],
] as const) {
  test(`tells nothing when ${name}`, async (t) => {
    const {press, heard} = keyboard(t)
    press(type, code, value)
    await delay(400)
    t.is(heard(), 0)
  })
}

test('does not listen to what has no Esc, and tells nothing after it is disposed', async (t) => {
  const {keyboards, press, heard} = keyboard(t)
  t.is(keyboards.count, 1)
  keyboards[Symbol.dispose]()
  press(EV_KEY, KEY_ESC, 1)
  await delay(400)
  t.is(heard(), 0)
})

test('a machine without input devices has no keyboard', (t) => {
  using keyboards = openKeyboards(() => undefined, '/nonexistent', '/nonexistent')
  t.is(keyboards.count, 0)
})

/** Files in the place of two devices, of which one is a mouse. */
function keyboard(t: ExecutionContext) {
  const place = mkdtempSync(join(tmpdir(), 'permafrost-keys-'))
  t.teardown(() => rmSync(place, {recursive: true}))
  for (const [name, keys] of [['event0', '402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe'], ['event1', '70000 0 0 0 0']] as const) {
    mkdirSync(join(place, 'sys', name, 'device/capabilities'), {recursive: true})
    writeFileSync(join(place, 'sys', name, 'device/capabilities/key'), `${keys}\n`)
    writeFileSync(join(place, name), '')
  }
  let count = 0
  const keyboards = openKeyboards(() => {
    count += 1
  }, place, join(place, 'sys'))
  t.teardown(() => keyboards[Symbol.dispose]())
  const press = (type: number, code: number, value: number): void => {
    const event = Buffer.alloc(24)
    event.writeUInt16LE(type, 16)
    event.writeUInt16LE(code, 18)
    event.writeInt32LE(value, 20)
    appendFileSync(join(place, 'event0'), event)
  }
  return {keyboards, press, heard: () => count}
}
