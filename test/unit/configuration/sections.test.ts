import test from 'ava'
import fc from 'fast-check'
import {parseSections, splitWords} from '../../../service/configuration/sections.js'
import {ConfigurationError} from '../../../service/errors.js'

const parse = (text: string) => parseSections(text, '/x.conf', ConfigurationError)

test('reads sections, keys and values with the lines they stand on', (t) => {
  t.deepEqual(parse('# comment\n\n[One]\n; another\n  Key = a b \n[Two]\nOther=\n'), [
    {name: 'One', line: 3, assignments: [{key: 'Key', value: 'a b', line: 5}]},
    {name: 'Two', line: 6, assignments: [{key: 'Other', value: '', line: 7}]},
  ])
})

test('joins a line that ends in a backslash with the next one, over comments', (t) => {
  const [section] = parse('[One]\nKey=a \\\n# not the end\n  b\\\n c\nNext=1')
  t.deepEqual(section?.assignments, [
    {key: 'Key', value: 'a  b c', line: 2},
    {key: 'Next', value: '1', line: 6},
  ])
})

test('takes a backslash at the end of the file as the end of the line', (t) => {
  t.is(parse('[One]\nKey=a\\')[0]?.assignments[0]?.value, 'a')
})

test('reads files with carriage returns and a byte order mark', (t) => {
  t.deepEqual(parse('\uFEFF[One]\r\nKey=a \\\r\n b\r\n')[0]?.assignments, [{key: 'Key', value: 'a  b', line: 2}])
})

for (const {title, text, line, value} of [
  {title: 'a key before any section', text: '\nKey=1', line: 2, value: 'Key=1'},
  {title: 'a line without an equals sign', text: '[A]\nnonsense', line: 2, value: 'nonsense'},
  {title: 'a section that is not closed', text: '[A', line: 1, value: '[A'},
  {title: 'a section with text behind it', text: '[A] B', line: 1, value: '[A] B'},
  {title: 'a line without a key', text: '[A]\n=1', line: 2, value: '=1'},
]) {
  test(`refuses ${title} with its file, line and text`, (t) => {
    const error = t.throws(() => parse(text), {instanceOf: ConfigurationError})
    t.like(error, {file: '/x.conf', line, value})
    t.true(error.message.startsWith(`Cannot read '/x.conf:${line}': '${value}' is wrong, expected '`) || error.message.includes('expected a section'))
  })
}

test('never throws anything but its line error on any text', (t) => {
  fc.assert(fc.property(fc.string(), (text) => {
    try {
      parse(text)
    } catch (error) {
      t.true(error instanceof ConfigurationError)
    }
  }))
  t.pass()
})

test('gives back every key and value that was written', (t) => {
  const word = fc.stringMatching(/^[A-Za-z][A-Za-z0-9/.:-]{0,12}$/)
  fc.assert(fc.property(fc.array(fc.tuple(word, word)), (pairs) => {
    const text = ['[S]', ...pairs.map(([key, value]) => `${key}=${value}`)].join('\n')
    t.deepEqual(parse(text)[0]?.assignments.map(({key, value}) => [key, value]), pairs.map(([key, value]) => [key, value]))
  }))
})

for (const [value, words] of [
  ['', []],
  ['  a  b ', ['a', 'b']],
  ['"a b" c', ['a b', 'c']],
  ["'a \"b'", ['a "b']],
  ['a\\ b', ['a b']],
  ['""', ['']],
  ['a"b c"d', ['ab cd']],
  ['"a', null],
] as const) {
  test(`splits <${value}> into ${JSON.stringify(words)}`, (t) => {
    t.deepEqual(splitWords(value), words)
  })
}
