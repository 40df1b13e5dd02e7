import test from 'ava'
import {errnoName, SnapshotError} from '../../service/errors.js'

/** errno numbers: include/uapi/asm-generic/errno-base.h and errno.h */
const snapshots: readonly (readonly [number, bigint, string])[] = [
  [12, 5120n, 'Cannot take the snapshot: 20 MiB more memory needed: close something, or add swap'],
  [12, 1n, 'Cannot take the snapshot: 1 MiB more memory needed: close something, or add swap'],
  [12, 0n, 'Cannot take the snapshot: more memory needed: close something, or add swap'],
  [5, 7n, 'Cannot take the snapshot: EIO'],
]

for (const [errno, pagesShort, sentence] of snapshots) {
  test(`a snapshot that fails with errno ${errno} and ${pagesShort} pages short says what to do`, (t) => {
    t.is(new SnapshotError(errno, pagesShort).message, sentence)
  })
}

const names: readonly (readonly [number, string])[] = [[16, 'EBUSY'], [-5, 'EIO'], [61, 'ENODATA'], [117, 'EUCLEAN'], [126, 'ENOKEY'], [0, 'errno 0'], [4000, 'errno 4000']]

for (const [errno, name] of names) {
  test(`errno ${errno} is called ${name}`, (t) => {
    t.is(errnoName(errno), name)
  })
}

test('a file system with its journal elsewhere, and a writer that hangs, are told apart', (t) => {
  t.regex(new SnapshotError(18).message, /journal or log/)
  t.regex(new SnapshotError(110).message, /in the middle of a write/)
})
