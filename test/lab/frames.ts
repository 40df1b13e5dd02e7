// The frames that host and agent exchange; agent.c describes them.

const END = 0xc0
const ESC = 0xdb
const ESC_END = 0xdc
const ESC_ESC = 0xdd

/** A frame's payload may be this long; both sides refuse longer ones. */
export const MAX_PAYLOAD = 16384

export interface Frame {
  readonly type: string
  readonly payload: Buffer
}

const CRC_TABLE = Uint32Array.from({length: 256}, (_, index) => {
  let value = index
  for (let bit = 0; bit < 8; bit++)
    value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1
  return value >>> 0
})

function crc32(data: Buffer): number {
  let value = 0xffffffff
  for (const byte of data)
    value = (CRC_TABLE[(value ^ byte) & 0xff] ?? 0) ^ (value >>> 8)
  return (value ^ 0xffffffff) >>> 0
}

/** The bytes of one frame, an END before and behind. */
export function encodeFrame(frame: Frame): Buffer {
  const body = Buffer.concat([Buffer.from(frame.type, 'latin1'), frame.payload, Buffer.alloc(4)])
  body.writeUInt32LE(crc32(body.subarray(0, -4)), body.length - 4)
  const encoded = Buffer.alloc(2 * body.length + 2)
  let at = 0
  encoded[at++] = END
  for (const byte of body) {
    if (byte === END || byte === ESC) {
      encoded[at++] = ESC
      encoded[at++] = byte === END ? ESC_END : ESC_ESC
    } else {
      encoded[at++] = byte
    }
  }
  encoded[at++] = END
  return encoded.subarray(0, at)
}

/** Takes bytes as they come and gives the frames that are whole; anything else is dropped at the next END. */
export class FrameDecoder {
  #rest = Buffer.alloc(0)

  push(bytes: Buffer): Frame[] {
    const frames: Frame[] = []
    let data = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    for (let end = data.indexOf(END); end >= 0; end = data.indexOf(END)) {
      const frame = decodeBody(data.subarray(0, end))
      if (frame !== null)
        frames.push(frame)
      data = data.subarray(end + 1)
    }
    this.#rest = Buffer.from(data)
    return frames
  }
}

function decodeBody(encoded: Buffer): Frame | null {
  const body = unescape(encoded)
  if (body.length < 5 || crc32(body.subarray(0, -4)) !== body.readUInt32LE(body.length - 4))
    return null
  return {type: body.toString('latin1', 0, 1), payload: body.subarray(1, -4)}
}

function unescape(encoded: Buffer): Buffer {
  const body = Buffer.alloc(encoded.length)
  let length = 0
  for (let at = 0; at < encoded.length; at++) {
    const byte = encoded[at]
    if (byte === ESC)
      body[length++] = encoded[++at] === ESC_END ? END : ESC
    else
      body[length++] = byte ?? 0
  }
  return body.subarray(0, length)
}
