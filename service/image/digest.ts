import koffi from 'koffi'
import {callOnThread} from '../edge/foreign-call.js'

/** XXH64 with seed 0, the one digest of the image format. */
export interface Digest {
  /** For small pieces: blocks the caller. */
  ofBytes(bytes: Uint8Array): bigint
  /** For large pieces: works on another thread while the caller goes on. */
  ofLargeBytes(bytes: Uint8Array): Promise<bigint>
}

export function loadDigest(): Digest {
  const xxh64 = koffi.load('libxxhash.so.0').func('uint64_t XXH64(const void *bytes, size_t length, uint64_t seed)')
  return {
    // koffi gives a number where the value is small enough for one.
    ofBytes: (bytes) => BigInt(xxh64(bytes, bytes.byteLength, 0)),
    async ofLargeBytes(bytes) {
      return BigInt((await callOnThread<number | bigint>(xxh64, bytes, bytes.byteLength, 0)).value)
    },
  }
}
