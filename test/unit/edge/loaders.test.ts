import {execFileSync, spawnSync} from 'node:child_process'
import {createHash} from 'node:crypto'
import {appendFileSync, chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {findLoaders, findWayBackMarks} from '../../../service/edge/loaders.js'

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

test('reads the marks that the hook of initramfs-tools writes', (t) => {
  const {places, directory} = makePlaces(t)
  writeFileSync(places.installed, LOADER)
  const program = `set -eu\nprepend_earlyinitramfs() { cat "$1" >>"$INITRAMFS"; }\n${hookFunction('mark_initramfs')}\nway_back='net tls=1a2b'\nmark_initramfs\n`
    .replaceAll('/usr/lib/permafrost/permafrost-loader', places.installed)
  execFileSync('sh', ['-c', program], {env: {...process.env, TMPDIR: directory, INITRAMFS: places.initramfs}})
  appendFileSync(places.initramfs, compressed)
  t.deepEqual(findLoaders(places), {installed: DIGEST, built: {file: places.initramfs, digest: DIGEST}, booted: null})
  t.deepEqual(findWayBackMarks({initramfs: places.initramfs, tlsFiles: [], programs: directory}).built, {file: places.initramfs, words: ['net', 'tls=1a2b']})
})

for (const [target, modules, words] of [
  ['', 'most', 'net'],
  ['', 'dep', ''],
  ['Target=tcp://store:7117/ice', 'dep', 'added net'],
  ['#Target=tcp://store:7117/ice', 'dep', ''],
  ['Target=tcp://store:7117/ice\nTarget=command:cat', 'dep', ''],
  [' Target = tls://store:7117/ice', 'dep', 'added /usr/bin/openssl net tls='],
] as const) {
  test(`with '${target}' and the modules that are needed ${modules === 'most' ? 'mostly' : 'here'}, the hook takes '${words}'`, (t) => {
    const {directory} = makePlaces(t)
    const tls = path.join(directory, 'tls')
    mkdirSync(tls)
    const tlsFiles = ['ca', 'certificate', 'key'].map((name) => path.join(tls, `${name}.pem`))
    for (const file of tlsFiles) writeFileSync(file, `this is ${file}\n`)
    writeFileSync(path.join(directory, 'permafrost.conf'), `[Image]\n${target}\n`)
    const stubs = 'auto_add_modules() { printf "added "; }\ncopy_exec() { printf "%s " "$1"; }'
    const program = `${stubs}\n${hookFunction('find_target')}\n${hookFunction('copy_network')}\ncopy_network\nprintf %s "$way_back"\n`
      .replaceAll('"/etc/permafrost/', `"${directory}/`).replaceAll('/etc/permafrost/permafrost.conf', `${directory}/permafrost.conf`)
    const said = execFileSync('sh', ['-c', program], {env: {...process.env, MODULES: modules, DESTDIR: directory}, encoding: 'utf8'})
    const {tlsDigest} = findWayBackMarks({initramfs: '/nowhere', tlsFiles, programs: '/nowhere'})
    t.is(said, words.endsWith('tls=') ? `${words}${String(tlsDigest)}` : words)
  })
}

test('finds the programs of resume.d that can be run, and no certificates where one is missing', (t) => {
  const {directory} = makePlaces(t)
  writeFileSync(path.join(directory, 'tape'), '', {mode: 0o755})
  writeFileSync(path.join(directory, 'README'), '', {mode: 0o644})
  const marks = findWayBackMarks({initramfs: path.join(directory, 'none'), tlsFiles: [path.join(directory, 'tape'), path.join(directory, 'none')], programs: directory})
  t.deepEqual(marks, {built: null, tlsDigest: null, programs: ['tape']})
})

test('leaves out programs of resume.d that others may write to, and says so', (t) => {
  const {directory} = makePlaces(t)
  const programs = path.join(directory, 'resume.d')
  mkdirSync(programs)
  chmodSync(programs, 0o755)
  for (const [name, mode, owner] of [['good', 0o755, 0], ['group', 0o775, 0], ['all', 0o757, 0], ['off', 0o644, 0], ['owned', 0o755, 1]] as const) {
    const file = path.join(programs, name)
    writeFileSync(file, '#!/bin/sh\n# Needs: /bin/gzip\n')
    chmodSync(file, mode)
    chownSync(file, owner, 0)
  }
  const copied = () => {
    const program = `copy_exec() { printf '%s ' "\${1##*/}"; }\n${hookFunction('is_trusted')}\n${hookFunction('copy_resume_programs')}\ncopy_resume_programs`
    const {stdout, stderr} = spawnSync('sh', ['-c', program.replaceAll('/etc/permafrost/resume.d', programs)], {encoding: 'utf8'})
    return {stdout, leftOut: [...stderr.matchAll(/left out '.*\/(\w+)', which others than root may write to/g)].map(([, name]) => name)}
  }
  const known = () => findWayBackMarks({initramfs: '/nowhere', tlsFiles: [], programs}).programs
  t.deepEqual(copied(), {stdout: 'good gzip ', leftOut: ['all', 'group', 'owned']})
  t.deepEqual(known(), ['good'])
  chmodSync(programs, 0o1777)
  t.deepEqual(copied(), {stdout: '', leftOut: ['all', 'good', 'group', 'owned']})
  t.deepEqual(known(), [])
})

/** One function of units/initramfs/hook. */
function hookFunction(name: string): string {
  const [text] = new RegExp(`^${name}\\(\\)\n\\{\n[\\s\\S]*?^\\}$`, 'm').exec(readFileSync('units/initramfs/hook', 'utf8')) ?? []
  return text ?? ''
}

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
