import test from 'ava'
import fc from 'fast-check'
import {DeviceMapperError} from '../../../service/errors.js'
import {parseTarget, printTarget, type Target} from '../../../service/dm/targets.js'
import {loadTemplates, parseTable, printTable, tableLength} from '../../../service/dm/table.js'
import {bytes, sectors, toBytes, toSectors} from '../../../service/dm/units.js'

const count = fc.maxSafeNat().map(sectors)
const device = fc.record({major: fc.nat(4095), minor: fc.nat(2 ** 20 - 1)})
const word = fc.stringMatching(/^[a-z0-9:_-]{1,20}$/)
const extent = {start: count, length: count}

const targets: fc.Arbitrary<Target> = fc.oneof(
  fc.record({kind: fc.constant('linear' as const), ...extent, device, offset: count}),
  fc.record({
    kind: fc.constant('striped' as const),
    ...extent,
    chunk: count,
    stripes: fc.array(fc.record({device, offset: count}), {minLength: 1, maxLength: 4}),
  }),
  fc.record({
    kind: fc.constant('crypt' as const),
    ...extent,
    cipher: word,
    key: word,
    ivOffset: count,
    device,
    offset: count,
    options: fc.array(word, {maxLength: 4}),
  }),
  fc.record({
    kind: fc.constantFrom('snapshot' as const, 'snapshot-merge' as const),
    ...extent,
    origin: device,
    cow: device,
    store: fc.constantFrom('P', 'N', 'PO'),
    chunk: count,
    options: fc.array(word, {maxLength: 2}),
  }),
)

test('a target that is printed is parsed to the same', (t) => {
  fc.assert(
    fc.property(targets, (target) => {
      t.deepEqual(parseTarget(printTarget(target)), target)
    }),
  )
})

test('a table that is printed is parsed to the same', (t) => {
  fc.assert(
    fc.property(fc.array(targets, {minLength: 1, maxLength: 5}), (table) => {
      t.deepEqual(parseTable(printTable(table), 'x'), table)
    }),
  )
})

const lines = [
  '0 41943040 linear 254:16 2048',
  '0 8388608 striped 2 128 8:16 0 8:32 0',
  '0 1953460992 crypt aes-xts-plain64 :64:logon:cryptsetup:1234-d0 0 259:3 32768 1 allow_discards',
  '0 2097152 snapshot 254:2 254:3 P 8',
  '0 2097152 snapshot-merge 254:2 254:3 P 8',
  '0 2097152 thin 254:5 1',
  '0 100 zero',
]

for (const line of lines) {
  test(`'${line}' is kept word for word`, (t) => {
    const target = parseTarget(line)
    t.is(target === null ? null : printTarget(target), line)
  })
}

const wrong = ['', 'linear', '0 linear 8:1 0', '0 8 linear 8:1', '0 8 linear /dev/sda 0', '0 8 linear 8:1 0 x', '0 8 striped 2 128 8:1 0', '-1 8 linear 8:1 0', '0 8 crypt aes key']

for (const line of wrong) {
  test(`'${line}' is no target`, (t) => {
    t.is(parseTarget(line), null)
  })
}

test('a malformed table is an error that does not show the line, in which a key may be', (t) => {
  const error = t.throws(() => parseTable('0 8 crypt aes secretkey 0', 'home'), {instanceOf: DeviceMapperError})
  t.regex(error?.message ?? '', /'home'/)
  t.notRegex(error?.message ?? '', /secretkey/)
})

test('a device without a table is an error', (t) => {
  t.throws(() => parseTable('\n', 'home'), {instanceOf: DeviceMapperError, message: /it has none/})
})

test('a table is as long as its last target ends', (t) => {
  t.is(tableLength(parseTable('0 100 linear 8:1 0\n100 50 linear 8:2 0\n', 'x')), sectors(150))
})

const fill = loadTemplates(new URL('../../../dm-tables', import.meta.url).pathname)

const filled: readonly (readonly [Parameters<typeof fill>[0], Parameters<typeof fill>[1], string])[] = [
  ['base', {live_table: '0 8 linear 8:1 0\n8 8 linear 8:2 0\n'}, '0 8 linear 8:1 0\n8 8 linear 8:2 0\n'],
  ['cow', {sectors: 100, spare: '8:16', spare_sector: 2048}, '0 100 linear 8:16 2048\n'],
  [
    'cow-encrypted',
    {sectors: 100, spare: '8:16', spare_sector: 2048, key: 'aa'},
    '0 100 crypt aes-xts-plain64 aa 0 8:16 2048\n',
  ],
  ['snapshot', {sectors: 100, base: '254:1', cow: '254:2'}, '0 100 snapshot 254:1 254:2 PO 8\n'],
  ['merge', {sectors: 100, base: '254:1', cow: '254:2'}, '0 100 snapshot-merge 254:1 254:2 P 8\n'],
  ['linear-wrap', {sectors: 100, device: '8:1'}, '0 100 linear 8:1 0\n'],
]

for (const [name, parameters, table] of filled) {
  test(`template '${name}' is filled with its parameters`, (t) => {
    t.is(printTable(fill(name, parameters)), table)
  })
}

test('a template is not filled when a parameter is missing', (t) => {
  t.throws(() => fill('snapshot', {sectors: 1, base: '254:1'}), {message: /'cow' is missing/})
})

test('a template is not filled with a parameter it does not know', (t) => {
  t.throws(() => fill('linear-wrap', {sectors: 1, device: '8:1', offset: 3}), {message: /'offset' is unknown/})
})

test('sectors are 512 bytes, and a sector begun does not count', (t) => {
  t.is(toBytes(sectors(3)), bytes(1536))
  t.is(toSectors(bytes(1535)), sectors(2))
})

for (const count of [-1, 0.5, Number.NaN, 2 ** 53]) {
  test(`${count} counts no sectors`, (t) => {
    t.throws(() => sectors(count), {instanceOf: RangeError})
  })
}
