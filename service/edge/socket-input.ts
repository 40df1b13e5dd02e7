import type {Readable} from 'node:stream'
import type {ByteInput} from './pipe.js'

/** A socket of Node's as something to be read in order. Nobody else may read it. */
export function inputFromStream(stream: Readable): ByteInput {
  const pieces = stream.iterator({destroyOnReturn: false}) as AsyncIterableIterator<Buffer>
  let rest: Buffer = Buffer.alloc(0)
  return {
    async fill(target) {
      let filled = 0
      while (filled < target.length) {
        if (rest.length === 0) {
          const next = await pieces.next()
          if (next.done === true) break
          rest = next.value
        }
        const count = rest.copy(target, filled)
        rest = rest.subarray(count)
        filled += count
      }
      return filled
    },
  }
}
