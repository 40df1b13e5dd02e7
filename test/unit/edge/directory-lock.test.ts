import {closeSync, fstatSync, mkdtempSync, openSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {lockDirectory} from '../../../service/edge/directory-lock.js'

test('one has a directory at a time, and the next one when it is given up', (t) => {
  const directory = temporaryDirectory(t)
  const first = lockDirectory(directory)
  t.not(first, null)
  t.is(lockDirectory(directory), null)
  first?.[Symbol.dispose]()
  const second = lockDirectory(directory)
  t.not(second, null)
  second?.[Symbol.dispose]()
})

test('giving it up twice closes nothing that has been opened since', (t) => {
  const directory = temporaryDirectory(t)
  const lock = lockDirectory(directory)
  lock?.[Symbol.dispose]()
  const descriptors = Array.from({length: 8}, () => openSync(directory, 'r'))
  lock?.[Symbol.dispose]()
  for (const descriptor of descriptors) {
    t.true(fstatSync(descriptor).isDirectory())
    closeSync(descriptor)
  }
})

test('a directory that is not there is no lock', (t) => {
  t.throws(() => lockDirectory(path.join(temporaryDirectory(t), 'none')), {code: 'ENOENT'})
})

function temporaryDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-lock-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  return directory
}
