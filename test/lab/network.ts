// Networks between machines: each segment is a multicast group on the host's loopback device, so that nothing else is reached.
import {createHash} from 'node:crypto'
import {cacheDirectory} from './cache.js'
import {UsageError} from './errors.js'
import {changeRoot} from './root-image.js'

/** The one network card of a machine. */
export interface Network {
  readonly segment: string
  /** With the length of its prefix, such as 10.7.0.1/24. */
  readonly address: string
}

/** 'blue=10.7.0.1/24' → what --net asks for. */
export function parseNetwork(text: string): Network {
  const [, segment, address] = /^([a-z0-9-]+)=(\d+\.\d+\.\d+\.\d+\/\d+)$/.exec(text) ?? []
  if (segment === undefined || address === undefined)
    throw new UsageError(`Cannot read network '${text}': expected SEGMENT=ADDRESS/PREFIX, such as blue=10.7.0.1/24`)
  return {segment, address}
}

/** What QEMU is told of it. */
export function networkArguments(network: Network): string[] {
  return [
    '-netdev', `socket,id=net0,mcast=${groupOf(network)},localaddr=127.0.0.1`,
    '-device', `virtio-net-pci,netdev=net0,mac=${hardwareAddressOf(network)}`
  ]
}

/** Gives the machine its address at every ordinary boot; systemd-networkd runs in machines with a network only. */
export async function writeNetwork(root: string, network: Network): Promise<void> {
  const settings = [
    '[Match]', `MACAddress=${hardwareAddressOf(network)}`, '', '[Network]', `Address=${network.address}`, 'LinkLocalAddressing=no',
    'LLDP=no', 'IPv6AcceptRA=no', ''
  ]
  await changeRoot(root, {
    directories: ['/etc/systemd/network'],
    files: {'/etc/systemd/network/50-laboratory.network': settings.join('\n')},
    links: {'/etc/systemd/system/multi-user.target.wants/systemd-networkd.service': '/lib/systemd/system/systemd-networkd.service'}
  })
}

/** Another user's laboratory, or one with another cache, has segments of its own. */
function groupOf({segment}: Network): string {
  const digest = createHash('sha256').update(`${cacheDirectory()}\0${segment}`).digest()
  return `239.255.${digest.readUInt8(0)}.${digest.readUInt8(1)}:${20_000 + digest.readUInt16BE(2) % 20_000}`
}

/** Locally administered (IEEE 802, second bit of the first byte), and of the machine's address. */
function hardwareAddressOf({address}: Network): string {
  const parts = (address.split('/')[0] ?? '').split('.').map(part => Number(part).toString(16).padStart(2, '0'))
  return ['02', '70', ...parts].join(':')
}
