import test from 'ava'
import fc from 'fast-check'
import {encodeFrame, FrameDecoder, MAX_PAYLOAD} from '../../lab/frames.js'

const payloads = fc.uint8Array({maxLength: 2000}).map(bytes => Buffer.from(bytes))

test('gives back every frame whatever its bytes and however the stream is cut', t => {
  fc.assert(fc.property(fc.array(payloads), fc.integer({min: 1, max: 97}), (sent, step) => {
    const stream = Buffer.concat(sent.map(payload => encodeFrame({type: 'o', payload})))
    const decoder = new FrameDecoder()
    const received: Buffer[] = []
    for (let at = 0; at < stream.length; at += step)
      received.push(...decoder.push(stream.subarray(at, at + step)).map(frame => frame.payload))
    t.deepEqual(received, sent)
  }))
  t.pass()
})

test('finds the next frame when the one before was cut off', t => {
  fc.assert(fc.property(payloads, fc.integer({min: 0, max: 3000}), (payload, length) => {
    const torn = encodeFrame({type: 'I', payload: Buffer.alloc(2500, 0xc0)}).subarray(0, length)
    const frames = new FrameDecoder().push(Buffer.concat([torn, encodeFrame({type: 'H', payload})]))
    t.deepEqual(frames, [{type: 'H', payload}])
  }))
  t.pass()
})

test('does not give a frame with a wrong bit', t => {
  const encoded = encodeFrame({type: 'o', payload: Buffer.alloc(MAX_PAYLOAD, 'a')})
  encoded[100] = (encoded[100] ?? 0) ^ 1
  t.deepEqual(new FrameDecoder().push(encoded), [])
})
