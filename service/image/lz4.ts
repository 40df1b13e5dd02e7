import koffi from 'koffi'
import {callOnThread} from '../edge/foreign-call.js'

/** LZ4 blocks (no frame), each call on a thread of its own while the caller goes on. */
export interface Lz4 {
  /** The length of the block put into `target`, or 0 when it does not fit. */
  compress(source: Uint8Array, target: Uint8Array): Promise<number>
  /** The length of what the block gave, or a negative number when it is malformed or does not fit. */
  decompress(source: Uint8Array, target: Uint8Array): Promise<number>
}

export function loadLz4(): Lz4 {
  const library = koffi.load('liblz4.so.1')
  const compress = library.func(
    'int LZ4_compress_default(const void *source, void *target, int sourceBytes, int targetBytes)',
  )
  const decompress = library.func(
    'int LZ4_decompress_safe(const void *source, void *target, int sourceBytes, int targetBytes)',
  )
  return {
    async compress(source, target) {
      return (await callOnThread<number>(compress, source, target, source.byteLength, target.byteLength)).value
    },
    async decompress(source, target) {
      return (await callOnThread<number>(decompress, source, target, source.byteLength, target.byteLength)).value
    },
  }
}
