import {mkdtempSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {connect} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {knockAtSideDoor, openSideDoor, type Refusal} from '../../../service/edge/side-door.js'

test('an abort asked for at the side door is done, and the caller hears of it', async (t) => {
  const {file, aborts} = await door(t, null)
  t.is(await knockAtSideDoor(file), null)
  t.is(aborts(), 1)
})

test('a refusal comes with its name and its sentence', async (t) => {
  const {file} = await door(t, {name: 'org.x.Error.Nothing', text: 'Cannot abort: no hibernation is under way'})
  t.deepEqual(await knockAtSideDoor(file), {name: 'org.x.Error.Nothing', text: 'Cannot abort: no hibernation is under way'})
})

test('only root can come in', async (t) => {
  const {file} = await door(t, null)
  t.is(statSync(file).mode & 0o777, 0o600)
})

test('where there is no door, or nobody behind it, nothing is known', async (t) => {
  const directory = newDirectory(t)
  t.is(await knockAtSideDoor(join(directory, 'none')), undefined)
  writeFileSync(join(directory, 'file'), '')
  t.is(await knockAtSideDoor(join(directory, 'file')), undefined)
})

test('a door that a killed daemon left is replaced', async (t) => {
  const directory = newDirectory(t)
  const file = join(directory, 'abort')
  writeFileSync(file, '')
  const opened = await openSideDoor(file, () => null)
  t.teardown(() => opened.close())
  t.is(await knockAtSideDoor(file), null)
})

for (const words of ['abort', 'abort\r\n', 'status\n', 'x'.repeat(100_000)]) {
  test(`does not abort for ${JSON.stringify(words.slice(0, 10))}`, async (t) => {
    const {file, aborts} = await door(t, null)
    const caller = connect(file)
    caller.on('error', () => undefined)
    caller.end(words)
    caller.resume()
    await new Promise((resolve) => caller.on('close', resolve))
    t.is(aborts(), 0)
    t.is(await knockAtSideDoor(file), null)
  })
}

async function door(t: ExecutionContext, refusal: Refusal) {
  const file = join(newDirectory(t), 'abort')
  let count = 0
  const opened = await openSideDoor(file, () => {
    count += 1
    return refusal
  })
  t.teardown(() => opened.close())
  return {file, aborts: () => count}
}

function newDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-door-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  return directory
}
