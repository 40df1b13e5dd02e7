import test from 'ava'
import {casesOf, selftestsOfSeries} from '../../lab/selftests.js'
import {filesOfSeries, textFromSeries} from '../../lab/series.js'
import {testPointsOf} from '../../lab/tap.js'

const OUTPUT = `TAP version 13
1..4
# Starting 4 tests from 2 test cases.
#  RUN           arguments.version ...
#            OK  arguments.version
ok 1 arguments.version
#  RUN           arguments.size ...
# arguments.c:44:size:Expected -1 (-1) == fd (3)
#          FAIL  arguments.size
not ok 2 arguments.size
ok 3 arguments.root # SKIP needs root
ok 4 sleeping.read.notices_nothing
# FAILED: 3 / 4 tests passed.
`

test('each result of a selftest is told by its name, with what was said before it', t => {
  const points = testPointsOf(OUTPUT)
  t.deepEqual(points.map(({name, outcome}) => `${name} ${outcome}`), [
    'arguments.version passed', 'arguments.size failed', 'arguments.root skipped', 'sleeping.read.notices_nothing passed'
  ])
  t.regex(points[1]?.text ?? '', /Expected -1 \(-1\) == fd \(3\)\n.*\nnot ok 2 arguments\.size$/s)
})

test('output without results gives none', t => {
  t.deepEqual(testPointsOf('1..3\n# nothing came\nokay 1\n'), [])
})

test('the cases of a program are those of its source, once for each variant of their fixture', t => {
  const source = `
TEST(alone)
FIXTURE_VARIANT_ADD(sleeping, read) {
FIXTURE_VARIANT_ADD(sleeping, poll)
TEST_F(sleeping, twice)
TEST_F_TIMEOUT(plain, once, 20)
`
  t.deepEqual(casesOf(source), ['global.alone', 'sleeping.read.twice', 'sleeping.poll.twice', 'plain.once'])
})

test('every selftest of the series has cases', t => {
  const selftests = selftestsOfSeries()
  t.true(selftests.some(({folder}) => folder === 'freeze_processes'))
  t.true(selftests.some(({folder}) => folder === 'snapshot_kernel'))
  for (const {program, cases} of selftests)
    t.true(cases.length > 0, program)
})

test('a file of the series is what its last patch leaves', t => {
  for (const path of filesOfSeries(/^include\/uapi\//))
    t.regex(textFromSeries(path), /^#endif/m)
})

test('a file that the series does not create is an error', t => {
  t.throws(() => textFromSeries('MAINTAINERS'), {message: /does not create it/})
})
