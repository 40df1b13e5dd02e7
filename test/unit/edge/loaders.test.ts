import {execFileSync} from 'node:child_process'
import {createHash} from 'node:crypto'
import {appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {findLoaders} from '../../../service/edge/loaders.js'

const LOADER = 'a static program'
const DIGEST = createHash('sha256').update(LOADER).digest('hex')

test('finds nothing where nothing is', (t) => {
  const {places} = makePlaces(t)
  t.deepEqual(findLoaders(places), {installed: null, built: null, booted: null})
})

test('finds the installed loader, and the one of this boot', (t) => {
  const {places} = makePlaces(t)
  writeFileSync(places.installed, LOADER)
  writeFileSync(places.booted, `${DIGEST}\n`)
  t.deepEqual(findLoaders(places), {installed: DIGEST, built: null, booted: DIGEST})
})

test('finds the mark of an initramfs behind other archives', (t) => {
  const {places, archive} = makePlaces(t)
  const microcode = archive({'kernel/x86/microcode/AuthenticAMD.bin': 'x'.repeat(70_001)})
  const mark = archive({'permafrost/loader.sha256': `${DIGEST}\n`})
  for (const archives of [[mark], [microcode, mark], [mark, microcode], [microcode, microcode, mark]]) {
    writeFileSync(places.initramfs, Buffer.concat([...archives, compressed]))
    t.deepEqual(findLoaders(places).built, {file: places.initramfs, digest: DIGEST})
  }
})

for (const [name, contents] of [
  ['that is compressed as a whole', () => [compressed]],
  ['that has other archives only', (archive: Archive) => [archive({'permafrost/other': DIGEST, 'loader.sha256': DIGEST}), compressed]],
  ['that ends in the middle of a header', (archive: Archive) => [archive({other: DIGEST}).subarray(0, 50)]],
  ['that is empty', () => []],
  ['whose mark is behind what is compressed', (archive: Archive) => [compressed, archive({'permafrost/loader.sha256': DIGEST})]],
  ['of zeros', () => [Buffer.alloc(100_000)]],
] as const) {
  test(`finds no mark in an initramfs ${name}`, (t) => {
    const {places, archive} = makePlaces(t)
    writeFileSync(places.initramfs, Buffer.concat(contents(archive)))
    t.deepEqual(findLoaders(places).built, {file: places.initramfs, digest: null})
  })
}

test('reads the mark that the hook of initramfs-tools writes', (t) => {
  const {places, directory} = makePlaces(t)
  writeFileSync(places.installed, LOADER)
  const script = readFileSync('units/initramfs/hook', 'utf8')
  const [mark] = /^mark_loader\(\)\n\{\n[\s\S]*?^\}$/m.exec(script) ?? []
  const program = `set -eu\nprepend_earlyinitramfs() { cat "$1" >>"$INITRAMFS"; }\n${mark ?? ''}\nmark_loader\n`
    .replaceAll('/usr/lib/permafrost/permafrost-loader', places.installed)
  execFileSync('sh', ['-c', program], {env: {...process.env, TMPDIR: directory, INITRAMFS: places.initramfs}})
  appendFileSync(places.initramfs, compressed)
  t.deepEqual(findLoaders(places), {installed: DIGEST, built: {file: places.initramfs, digest: DIGEST}, booted: null})
})

/** How zstd's frames begin. */
const compressed = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x01, 0x02, ...Array<number>(600).fill(0x37)])

type Archive = (files: Readonly<Record<string, string>>) => Buffer

function makePlaces(t: ExecutionContext) {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-loaders-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  const at = (name: string): string => path.join(directory, name)
  const archive: Archive = (files) => {
    const work = mkdtempSync(at('archive-'))
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(work, name)), {recursive: true})
      writeFileSync(path.join(work, name), text)
    }
    return execFileSync('cpio', ['--quiet', '-o', '-H', 'newc'], {cwd: work, input: `${Object.keys(files).join('\n')}\n`})
  }
  return {directory, archive, places: {installed: at('loader'), initramfs: at('initrd.img'), booted: at('booted')}}
}
