import test from 'ava'
import {parseConfiguration} from '../../service/configuration/load.js'
import {imageTypeOf} from '../../service/machine.js'
import {fakeFiles} from './fakes/files.js'

const DEFAULTS = parseConfiguration([])

test('an image on a spare device that is a network block device goes over the network', (t) => {
  const files = {...fakeFiles({}), realPath: (path: string) => ({'/dev/disk/by-id/spare': '/dev/nbd0p1', '/dev/disk/by-id/disk': '/dev/sdb'})[path] ?? null}
  const typeOf = (spareDevice: string | null) => imageTypeOf({...DEFAULTS, spareDevice}, files)
  t.is(typeOf('/dev/disk/by-id/spare'), 'nbd')
  t.is(typeOf('/dev/disk/by-id/disk'), 'spare')
  t.is(typeOf('/dev/gone'), 'spare')
  t.is(typeOf(null), 'spare')
})

test('an image that goes to a server is not asked where the spare device is', (t) => {
  const target = {kind: 'command', text: 'command:cat', command: 'cat'} as const
  t.is(imageTypeOf({...DEFAULTS, spareDevice: '/dev/nbd0', target}, {...fakeFiles({}), realPath: (path) => path}), 'command')
})
