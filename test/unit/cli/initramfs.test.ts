import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {findStaleInitramfs} from '../../../service/cli/initramfs.js'

test('finds an initramfs made before the loader came', async (t) => {
  const places = makePlaces(t)
  writeFileSync(path.join(places.boot, 'initrd.img-1'), '')
  await delay(20) // Times of change are those of the kernel's tick, 4 ms with HZ=250.
  writeFileSync(places.parts[0] ?? '', '')
  await delay(20)
  writeFileSync(path.join(places.boot, 'initrd.img-2'), '')
  writeFileSync(path.join(places.boot, 'config-1'), '')
  t.deepEqual(findStaleInitramfs(places), [path.join(places.boot, 'initrd.img-1')])
})

test('finds none where there are no kernels, and none where nothing of ours is installed', (t) => {
  const places = makePlaces(t)
  t.deepEqual(findStaleInitramfs({...places, boot: '/nonexistent'}), [])
  writeFileSync(path.join(places.boot, 'initrd.img-1'), '')
  t.deepEqual(findStaleInitramfs(places), [])
})

function makePlaces(t: ExecutionContext) {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-initramfs-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  const boot = path.join(directory, 'boot')
  mkdirSync(boot)
  return {boot, parts: [path.join(directory, 'loader')]}
}
