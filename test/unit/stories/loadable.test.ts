import test from 'ava'
import {TooLittleMemoryError} from '../../../service/errors.js'
import {checkLoadable, loaderBytes} from '../../../service/stories/loadable.js'

const TOTAL_KIB = 1_000_000
const MEMINFO = `MemTotal:        ${TOTAL_KIB} kB\nMemFree:          1000 kB\n`
const FITTING_PAGES = Math.floor((TOTAL_KIB * 1024 - loaderBytes(TOTAL_KIB * 1024)) / 4096)

test('an image that leaves the loader what it needs can be loaded', t => {
  t.notThrows(() => { checkLoadable(MEMINFO, FITTING_PAGES) })
})

test('what is larger is refused, with how much is missing', t => {
  const error = t.throws(() => { checkLoadable(MEMINFO, FITTING_PAGES + 256) }, {instanceOf: TooLittleMemoryError})
  t.regex(error.message, /^Cannot hibernate: 1 MiB more of free memory are needed to load the image at the next boot; end a program$/)
})

test('without a total nothing is refused', t => {
  t.notThrows(() => { checkLoadable('', FITTING_PAGES * 2) })
})
