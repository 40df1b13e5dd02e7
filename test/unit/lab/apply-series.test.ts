import {execFileSync} from 'node:child_process'
import {cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {repository} from '../../lab/places.js'

const directories: string[] = []
test.after.always(() => directories.forEach(path => rmSync(path, {recursive: true})))

/** Long before a test, so that a file that was written again has another date. */
const BUILT = new Date('2026-01-01T00:00:00Z')

test('a file that comes out as it was keeps its date when patches are numbered anew', t => {
  const series = new Series({one: 'one\n', two: 'two\n', three: 'three\n'})
  series.set([['0001-one', 'one', 'one', 'ONE'], ['0002-two', 'two', 'two', 'TWO']])
  series.apply()
  t.is(series.read('two'), 'TWO\n')
  series.date(['one', 'two', 'three'])
  series.set([['0001-one', 'one', 'one', 'ONE'], ['0002-three', 'three', 'three', 'THREE'], ['0003-two', 'two', 'two', 'TWO']])
  series.apply()
  t.deepEqual(series.read('one') + series.read('two') + series.read('three'), 'ONE\nTWO\nTHREE\n')
  t.deepEqual(['one', 'two', 'three'].filter(name => series.isOld(name)), ['one', 'two'])
  t.false(existsSync(`${series.tree}.before`))
})

test('a file that comes out otherwise has another date, one of which the patch is gone as well', t => {
  const series = new Series({one: 'one\n', two: 'two\n'})
  series.set([['0001-one', 'one', 'one', 'ONE'], ['0002-two', 'two', 'two', 'TWO']])
  series.apply()
  series.date(['one', 'two'])
  series.set([['0001-one', 'one', 'one', 'Eins']])
  series.apply()
  t.is(series.read('one') + series.read('two'), 'Eins\ntwo\n')
  t.deepEqual(['one', 'two'].filter(name => series.isOld(name)), [])
})

/** A source of a few files, with patches that each change a line of one. */
class Series {
  readonly tree: string
  readonly #kernel: string
  readonly #tarball: string

  constructor(files: Readonly<Record<string, string>>) {
    const directory = mkdtempSync(join(tmpdir(), 'permafrost-series-'))
    directories.push(directory)
    this.tree = join(directory, 'linux')
    this.#kernel = join(directory, 'kernel')
    this.#tarball = join(directory, 'source.tar.xz')
    mkdirSync(join(directory, 'source'))
    for (const [name, text] of Object.entries({...files, Makefile: 'kernelversion:\n\t@echo 6.12.0\n'}))
      writeFileSync(join(directory, 'source', name), text)
    execFileSync('tar', ['-cJf', this.#tarball, '-C', directory, 'source'])
    mkdirSync(this.#kernel)
    cpSync(join(repository(), 'kernel/apply.sh'), join(this.#kernel, 'apply.sh'))
  }

  set(patches: readonly (readonly [name: string, file: string, from: string, to: string])[]): void {
    rmSync(join(this.#kernel, 'patches'), {recursive: true, force: true})
    mkdirSync(join(this.#kernel, 'patches'))
    for (const [name, file, from, to] of patches)
      writeFileSync(join(this.#kernel, 'patches', name), `--- a/${file}\n+++ b/${file}\n@@ -1 +1 @@\n-${from}\n+${to}\n`)
    writeFileSync(join(this.#kernel, 'series'), patches.map(([name]) => `${name}\n`).join(''))
  }

  apply(): void {
    execFileSync('bash', [join(this.#kernel, 'apply.sh'), this.tree, this.#tarball], {stdio: 'pipe'})
  }

  read(name: string): string {
    return readFileSync(join(this.tree, name), 'utf8')
  }

  date(names: readonly string[]): void {
    for (const name of names)
      utimesSync(join(this.tree, name), BUILT, BUILT)
  }

  isOld(name: string): boolean {
    return statSync(join(this.tree, name)).mtimeMs === BUILT.getTime()
  }
}
