import test from 'ava'
import {LoaderBuild} from './loader-build.js'

/** Builds the loader, or what is made of its sources, for the tests of a file; says in its own test when that cannot be: then they are skipped. */
export function withLoaderOr(title: string, loader: LoaderBuild, build = () => loader.build()) {
  const missing = LoaderBuild.findMissing()
  test.before(() => {
    if (missing === null) build()
  })
  test.after.always(() => loader.remove())
  if (missing === null) return test
  test(title, t => {
    t.log(`skipped: package '${missing}' is not installed`)
    t.pass()
  })
  return test.skip
}
