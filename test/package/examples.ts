// The examples of the manual, to be run as they are printed.
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import {repository} from '../lab/places.js'

/** What stands for a device of the reader's in the manual. */
const EXAMPLE_DEVICE = '/dev/disk/by-id/ata-SPARE_123'

/** The command lines between .EX and .EE of a page of section 1 or 8, with `device` where the manual has one of its own. */
export function examplesOf(page: string, device: string): readonly string[] {
  const text = readFileSync(join(repository(), 'units/man', page), 'utf8')
  return [...text.matchAll(/^\.EX\n([^]*?)^\.EE$/mg)]
    .flatMap(([, block]) => (block ?? '').trim().split('\n'))
    .map(line => line.replaceAll('\\-', '-').replaceAll(EXAMPLE_DEVICE, device))
}
