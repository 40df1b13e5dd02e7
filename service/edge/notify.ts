import {openDatagrams, type SendDatagram} from './datagram.js'

/** What the daemon tells its service manager; sd_notify(3) without libsystemd. */
export interface ServiceManager {
  ready(status: string): void
  stopping(status: string): void
}

/** Without NOTIFY_SOCKET nobody listens, and nothing is sent. */
export function openServiceManager(
  socketPath = process.env['NOTIFY_SOCKET'],
  send: SendDatagram = openDatagrams(),
): ServiceManager {
  const notify = (state: string, status: string): void => {
    if (socketPath !== undefined && socketPath !== '') send(socketPath, Buffer.from(`${state}\nSTATUS=${status}\n`))
  }
  return {
    ready: (status) => notify('READY=1', status),
    stopping: (status) => notify('STOPPING=1', status),
  }
}
