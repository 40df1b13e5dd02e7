import {once} from 'node:events'
import {createConnection} from 'node:net'
import {SinkError} from '../errors.js'
import {AnsweringConnection} from './answering-connection.js'
import type {StreamTarget, TargetConnection} from './stream-target.js'

/** A socket of this machine, unix(7), on which a command of ours listens that carries the image on. */
export function socketTarget(path: string, name: string): StreamTarget {
  return {
    name,
    inspect: () => Promise.resolve({freeBytes: Number.POSITIVE_INFINITY}),
    async open(signal): Promise<TargetConnection> {
      const socket = createConnection({path, allowHalfOpen: true})
      try {
        await once(socket, 'connect', {signal})
      } catch (cause) {
        socket.destroy()
        throw new SinkError('connect to', path, {cause})
      }
      return new AnsweringConnection(socket, signal)
    },
  }
}
