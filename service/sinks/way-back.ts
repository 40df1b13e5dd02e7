import {networkInterfaces} from 'node:os'
import type {ServerAddress} from '../configuration/target.js'
import type {Files} from '../edge/files.js'
import {TargetError} from '../errors.js'
import type {Lines} from '../image/records.js'

/** The two ends of a connection, as numbers. */
export interface Ends {
  readonly localAddress: string
  readonly remoteAddress: string
}

/**
 * What the loader needs to reach the server before anything of the system runs: the server's number instead of its
 * name, and the network card with the address that the resumed system believes it has. Throws TargetError where no card
 * that an initramfs can bring up leads there.
 */
export function findWayBack(target: ServerAddress, {localAddress, remoteAddress}: Ends, files: Files): Lines {
  const {kind, text, host, port, name} = target
  const server = {target: text, kind, host, address: remoteAddress, port: String(port), name}
  const [card, own] = Object.entries(networkInterfaces())
    .flatMap(([key, addresses]) => (addresses ?? []).map((each) => [key, each] as const))
    .find(([, {address}]) => address === localAddress) ?? []
  if (card === undefined || own === undefined) throw new TargetError(text, `no network card has the address '${localAddress}'`)
  // This very machine, which is so in tests only.
  if (own.internal) return server
  const refuse = (fault: string): never => {
    throw new TargetError(text, `'${card}' ${fault}, so the initramfs could not fetch the image; use another card`)
  }
  if (files.realPath(`/sys/class/net/${card}/device`) === null) refuse('is no network card of its own but made of others')
  if (files.realPath(`/sys/class/net/${card}/phy80211`) !== null) refuse('is a wireless card')
  const gateway = findGateway(files.readText('/proc/net/route') ?? '', card, remoteAddress)
  return {...server, mac: own.mac, local: localAddress, netmask: own.netmask, ...(gateway === null ? {} : {gateway})}
}

// The columns of /proc/net/route, fib_route_seq_show() in net/ipv4/fib_trie.c.
const [CARD, DESTINATION, GATEWAY, FLAGS, METRIC, MASK] = [0, 1, 2, 3, 6, 7]
// RTF_GATEWAY of include/uapi/linux/route.h.
const HAS_GATEWAY = 2

/** Null where the server is on the same segment. */
export function findGateway(routes: string, card: string, address: string): string | null {
  const number = (hexadecimal: string | undefined): number => Buffer.from(hexadecimal ?? '', 'hex').reverse().readUInt32BE()
  const wanted = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const [best] = routes.trim().split('\n').slice(1)
    .map((line) => line.split('\t').map((field) => field.trim()))
    .filter((fields) => fields[CARD] === card && fields.length > MASK)
    .filter((fields) => (wanted & number(fields[MASK])) >>> 0 === number(fields[DESTINATION]))
    .sort((left, right) => number(right[MASK]) - number(left[MASK]) || Number(left[METRIC]) - Number(right[METRIC]))
  if (best === undefined || (Number.parseInt(best[FLAGS] ?? '0', 16) & HAS_GATEWAY) === 0) return null
  return [...Buffer.from(best[GATEWAY] ?? '', 'hex').reverse()].join('.')
}
