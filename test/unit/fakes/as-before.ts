import type {ExecutionContext} from 'ava'
import {ORIGINAL_TABLES, type FakeMachine} from './machine.js'

/** Tables, processes and spare device are as if nobody had tried to hibernate. */
export async function assertAsBefore(t: ExecutionContext, fake: FakeMachine): Promise<void> {
  t.false(fake.kernel.isFrozen)
  t.false(fake.kernel.isImageOpen)
  t.is(fake.kernel.poweredOff, 0)
  t.deepEqual(await fake.liveTables(), ORIGINAL_TABLES)
  t.deepEqual(fake.dm.devices.map(({inactive}) => inactive), [null, null])
  t.true(['empty', 'aborted'].includes(await fake.imageState()))
  if ((await fake.imageState()) !== 'empty') t.is(await fake.spare.readMerges(), null)
}
