import koffi from 'koffi'

/** Sends one datagram to a Unix socket without ever waiting: 0, or the errno. */
export type SendDatagram = (socketPath: string, bytes: Buffer) => number

// include/linux/socket.h and asm-generic/fcntl.h on x86-64.
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000

/**
 * Node has no Unix datagram sockets, so this calls libc. One socket serves for all
 * addresses; it is made with the first datagram and lives as long as the process.
 */
export function openDatagrams(): SendDatagram {
  const library = koffi.load('libc.so.6')
  const socket = library.func('int socket(int domain, int type, int protocol)')
  const sendto = library.func('long sendto(int fd, void *bytes, size_t size, int flags, void *address, unsigned int addressBytes)')
  let fd = -1
  return (socketPath, bytes) => {
    if (fd < 0) fd = Number(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0))
    if (fd < 0) return koffi.errno()
    const address = encodeAddress(socketPath)
    const sent = Number(sendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, address, address.length))
    return sent < 0 ? koffi.errno() : 0
  }
}

/** sockaddr_un of unix(7); a leading `@` stands for the abstract name space. */
function encodeAddress(socketPath: string): Buffer {
  const isAbstract = socketPath.startsWith('@')
  const name = Buffer.from(isAbstract ? `\0${socketPath.slice(1)}` : `${socketPath}\0`)
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  return Buffer.concat([family, name])
}
