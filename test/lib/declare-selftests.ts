// Each case of each selftest of the kernel as a test of ours, so that a reader sees it by its name.
import test from 'ava'
import type {Selftest, SelftestRunner} from '../lab/selftests.js'

/** The runner is asked for when the first case runs. */
export function declareSelftests(selftests: readonly Selftest[], runner: () => SelftestRunner): void {
  for (const selftest of selftests) {
    const title = `${selftest.folder} ${selftest.program}`
    for (const name of selftest.cases) {
      test.serial(`${title}: ${name}`, async t => {
        const point = await runner().point(selftest, name)
        t.is(point.outcome, 'passed', point.text)
      })
    }
    test.serial(`${title} reports the cases of its source and no others`, async t => {
      const reported = (await runner().report(selftest)).map(point => point.name)
      t.deepEqual(reported.sort(), [...selftest.cases].sort())
    })
  }
}
