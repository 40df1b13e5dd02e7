import {execFile} from 'node:child_process'
import {readdirSync, readFileSync} from 'node:fs'
import path from 'node:path'
import {promisify} from 'node:util'
import test from 'ava'
import {VERBS} from '../../service/cli/verbs.js'
import {parseConfiguration} from '../../service/configuration/load.js'
import {LineError} from '../../service/errors.js'
import {parsePolicyFile} from '../../service/policy/parse.js'

const run = promisify(execFile)
const MANUAL = 'units/man'
const COMPLETIONS = ['units/completions/permafrost.bash', 'units/completions/_permafrost']

for (const name of readdirSync(MANUAL)) {
  test(`man has no complaint about ${name}`, async (t) => {
    const {stderr} = await run('man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', path.join(MANUAL, name)], {
      env: {...process.env, LC_ALL: 'C.UTF-8', MANROFFSEQ: '', MANWIDTH: '80'},
      maxBuffer: 2 ** 22,
    })
    t.is(stderr, '')
  })
}

for (const verb of VERBS) {
  test(`permafrost(1) and the completions know '${verb.name}' and its options`, (t) => {
    const page = plainText('permafrost.1')
    t.regex(page, new RegExp(`^${verb.name}( |$)`, 'm'))
    for (const flag of [...Object.keys(verb.flags), 'json', 'help']) {
      t.true(page.includes(`--${flag}`), flag)
      for (const file of COMPLETIONS) t.true(readFileSync(file, 'utf8').includes(`--${flag}`), `${file}: ${flag}`)
    }
    // What is written small in its form is to be typed as it is: 'show|verify|discard [DEVICE]'.
    for (const word of verb.parameters.replace(/--\w+/g, '').match(/[a-z]+/g) ?? []) {
      t.regex(page, new RegExp(`\\b${word}\\b`), word)
      for (const file of COMPLETIONS) t.regex(readFileSync(file, 'utf8'), new RegExp(`\\b${word}\\b`), `${file}: ${word}`)
    }
    for (const file of COMPLETIONS) t.regex(readFileSync(file, 'utf8'), new RegExp(`\\b${verb.name}\\b`), file)
  })
}

test('permafrost(1) has no verb or option that is not there', (t) => {
  const options = new Set(plainText('permafrost.1').match(/--[a-z]+/g))
  const known = ['json', 'help', 'version', ...VERBS.flatMap((verb) => Object.keys(verb.flags))].map((flag) => `--${flag}`)
  t.deepEqual([...options].sort(), [...new Set(known)].sort())
})

test('permafrost.conf(5) has every section and key, and no other', (t) => {
  const page = plainText('permafrost.conf.5')
  const sections = listed(() => parseConfiguration([{file: 'x', text: '[Nothing]\n'}])).map((word) => word.replace(/[[\]]/g, ''))
  const keys = sections.flatMap((section) => listed(() => parseConfiguration([{file: 'x', text: `[${section}]\nNothing=1\n`}])))
  t.deepEqual([...headings('permafrost.conf.5')].sort(), sections.map((section) => `[${section.toUpperCase()}] SECTION`).sort())
  for (const key of keys) t.regex(page, new RegExp(`^${key}`, 'm'), key)
  t.deepEqual([...described('permafrost.conf.5')].sort(), [...keys].sort())
})

test('permafrostd(8) has every method, property and signal', (t) => {
  const page = plainText('permafrostd.8')
  const [manager = ''] = readFileSync('service/bus/org.permafrost1.xml', 'utf8').split('<interface name="org.freedesktop.')
  const names = [...manager.matchAll(/<(?:method|property|signal) name="(\w+)"/g)].map(([, name = '']) => name)
  t.true(names.length > 12)
  for (const name of names) t.regex(page, new RegExp(`\\b${name}\\b`), name)
})

test('permafrost-policy(5) has every key, and no other', (t) => {
  const keys = listed(() => parsePolicyFile('[Needed]\nNothing=1\n', 'x'))
  t.true(keys.length > 5)
  t.deepEqual([...described('permafrost-policy.5')].sort(), [...keys].sort())
})

test('every page has an example', (t) => {
  for (const name of readdirSync(MANUAL)) t.regex(readFileSync(path.join(MANUAL, name), 'utf8'), /^\.SH EXAMPLES?$/m, name)
})

test('bash completes verbs, options and actions', async (t) => {
  const complete = async (...words: readonly string[]): Promise<readonly string[]> => {
    const script = 'source units/completions/permafrost.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _permafrost; printf "%s\\n" "${COMPREPLY[@]}"'
    const {stdout} = await run('bash', ['-c', script, 'bash', 'permafrost', ...words])
    return stdout.split('\n').filter((word) => word !== '')
  }
  t.deepEqual(await complete('hi'), ['hibernate'])
  t.deepEqual([...(await complete(''))].sort(), ['--help', '--version', ...VERBS.map(({name}) => name)].sort())
  t.deepEqual(await complete('setup', '--y'), ['--yes'])
  t.deepEqual(await complete('check', '--y'), [])
  t.deepEqual(await complete('image', 'v'), ['verify'])
})

/** What a wrong word's error says might have stood in its place. */
function listed(parse: () => unknown): readonly string[] {
  try {
    parse()
  } catch (error) {
    if (error instanceof LineError) return error.expected.replace(/^.*one of /, '').split(', ')
    throw error
  }
  throw new Error('A wrong word was taken')
}

/** The page without macros at the start of lines and without escapes. */
function plainText(name: string): string {
  return readFileSync(path.join(MANUAL, name), 'utf8')
    .replace(/^\.(B|I|BR|RB|BI|IR|IP|SS|TH)\s+/gm, '').replaceAll('\\-', '-').replaceAll('"', '')
}

function headings(name: string): readonly string[] {
  return [...readFileSync(path.join(MANUAL, name), 'utf8').matchAll(/^\.SH "(\[[A-Z]+\] SECTION)"$/gm)].map(([, heading]) => heading ?? '')
}

/** The keys that have a paragraph of their own. */
function described(name: string): readonly string[] {
  return [...readFileSync(path.join(MANUAL, name), 'utf8').matchAll(/^\.TP\n\.BI ([A-Za-z]+=)/gm)].map(([, key]) => key ?? '')
}
