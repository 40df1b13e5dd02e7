import test from 'ava'
import {exec} from '../../../service/edge/exec.js'
import {CommandError} from '../../../service/errors.js'

test('gives what the program printed', async (t) => {
  t.is((await exec('echo', ['a b', '$HOME'])).output, 'a b $HOME\n')
})

test('hands input to the program', async (t) => {
  t.is((await exec('cat', [], {input: '0 8 linear'})).output, '0 8 linear')
})

test('a status that is not accepted is an error with the last line of what was said', async (t) => {
  const error = await t.throwsAsync(exec('ls', ['/no/such/place']), {instanceOf: CommandError})
  t.regex(error?.message ?? '', /^Cannot run 'ls \/no\/such\/place': it ended with 2, saying '.*No such file/)
  t.is(error?.exitStatus, 2)
})

test('an accepted status is no error', async (t) => {
  t.is((await exec('false', [], {accept: [0, 1]})).exitStatus, 1)
})

test('a program that is not there is an error', async (t) => {
  await t.throwsAsync(exec('no-such-program', []), {instanceOf: CommandError, message: /ENOENT/})
})

test('a program that takes too long is killed', async (t) => {
  await t.throwsAsync(exec('sleep', ['20'], {timeoutMs: 100}), {instanceOf: CommandError, message: /SIGKILL/})
})

test('a program that does not read its input does not hurt', async (t) => {
  t.is((await exec('true', [], {input: 'x'.repeat(2 ** 20)})).exitStatus, 0)
})
