import {existsSync, readFileSync} from 'node:fs'
import path from 'node:path'
import test from 'ava'
import {VERBS} from '../../service/cli/verbs.js'
import {VERBS as LAB_VERBS} from '../lab/command-line.js'

const PAGES = ['README.md', 'test/README.md', 'kernel/README.md']

for (const page of PAGES) {
  const text = readFileSync(page, 'utf8')

  test(`${page} names no npm script and no laboratory's verb that is not there`, (t) => {
    const {scripts} = JSON.parse(readFileSync('package.json', 'utf8')) as {readonly scripts: Readonly<Record<string, string>>}
    const names = found(text, /\bnpm run ([a-z:-]+)/g)
    t.true(names.length > 0)
    t.deepEqual(names.filter((name) => !Object.hasOwn(scripts, name)), [])
    t.deepEqual(found(text, /\bnpm run lab -- ([a-z]+)/g).filter((verb) => verb !== 'help' && !Object.hasOwn(LAB_VERBS, verb)), [])
  })

  test(`${page} names no file of the repository that is not there`, (t) => {
    const links = found(text, /\]\((?!https?:)([^)#]+)/g).map((target) => path.join(path.dirname(page), target))
    const scripts = found(text, /\b(kernel\/[a-z]+\.sh)\b/g)
    t.deepEqual([...links, ...scripts].filter((file) => !existsSync(file)), [])
  })
}

test('README names no verb, action or option of permafrost that is not there', (t) => {
  const lines = found(readFileSync('README.md', 'utf8'), /\bpermafrost ([a-z][^`\n]*?)(?= {2,}|`|$)/gm)
  const typed = lines.filter((words) => VERBS.some(({name}) => words.split(' ')[0] === name))
  t.true(typed.length > 5)
  for (const words of typed) {
    const [name, action = ''] = words.split(' ')
    const verb = VERBS.find((each) => each.name === name)
    if (name === 'image') t.true(verb?.parameters.split(/\W+/).includes(action), words)
    t.deepEqual(found(words, /--([a-z]+)/g).filter((flag) => !Object.hasOwn({json: '', ...verb?.flags}, flag)), [], words)
  }
})

function found(text: string, pattern: RegExp): readonly string[] {
  return [...text.matchAll(pattern)].map(([, word]) => word ?? '')
}
