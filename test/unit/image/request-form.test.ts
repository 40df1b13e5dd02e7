import {readFileSync} from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import {ImageError} from '../../../service/errors.js'
import {loadDigest} from '../../../service/image/digest.js'
import {decodeRequest, encodeRequest, isImageName, REQUEST_BYTES, type ServerRequest} from '../../../service/image/request-form.js'

const digest = loadDigest()
const GOLDEN: ServerRequest = {kind: 'fetch', imageId: '5a'.repeat(16), name: 'laptop.example_1-a'}

test('every request is read as it was written', (t) => {
  const requests = fc.record({
    kind: fc.constantFrom('ask' as const, 'store' as const, 'fetch' as const),
    imageId: fc.uint8Array({minLength: 16, maxLength: 16}).map((bytes) => Buffer.from(bytes).toString('hex')),
    name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
  })
  fc.assert(fc.property(requests, (request) => {
    t.deepEqual(decodeRequest(encodeRequest(request, digest), digest, 'x'), request)
  }))
})

test('a request with any bit wrong is refused', (t) => {
  fc.assert(fc.property(fc.integer({min: 0, max: REQUEST_BYTES * 8 - 1}), (bit) => {
    const bytes = encodeRequest(GOLDEN, digest)
    bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    t.throws(() => decodeRequest(bytes, digest, 'x'), {instanceOf: ImageError})
  }))
})

test('version 1 is byte for byte what it was when it was fixed', (t) => {
  t.true(encodeRequest(GOLDEN, digest).equals(readFileSync(new URL('../../fixtures/request-v1.bin', import.meta.url))))
})

test('a name leads to no other directory', (t) => {
  for (const name of ['', '.', '..', '.hidden', '../x', 'a/b', 'a b', 'a\0', 'x'.repeat(64), 'é']) t.false(isImageName(name), name)
  for (const name of ['a', '0', 'laptop', 'a.b-c_d', 'x'.repeat(63)]) t.true(isImageName(name), name)
})
