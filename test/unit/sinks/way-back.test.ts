import {networkInterfaces} from 'node:os'
import test from 'ava'
import {TargetError} from '../../../service/errors.js'
import {findGateway, findWayBack} from '../../../service/sinks/way-back.js'
import {fakeFiles} from '../fakes/files.js'

const ROUTES = [
  'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
  'eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0',
  'eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0',
  'eth0\t0000A8C0\tFE00000A\t0003\t0\t0\t5\t0000FFFF\t0\t0\t0',
  'wlan0\t00000000\t0101A8C0\t0003\t0\t0\t9\t00000000\t0\t0\t0',
].join('\n')

for (const [card, address, gateway] of [
  ['eth0', '10.0.0.7', null],
  ['eth0', '8.8.8.8', '10.0.0.1'],
  ['eth0', '192.168.3.4', '10.0.0.254'],
  ['eth0', '250.1.2.3', '10.0.0.1'],
  ['wlan0', '8.8.8.8', '192.168.1.1'],
  ['eth1', '8.8.8.8', null],
] as const) {
  test(`from '${card}' to ${address} the way leads ${gateway === null ? 'there at once' : `over ${gateway}`}`, (t) => {
    t.is(findGateway(ROUTES, card, address), gateway)
  })
}

test('no routes lead over no gateway', (t) => {
  t.is(findGateway('', 'eth0', '8.8.8.8'), null)
})

const TARGET = {kind: 'tcp', text: 'tcp://store:7117/ice', host: 'store', port: 7117, name: 'ice'} as const

test('on the loopback device no card has to be brought up', (t) => {
  const way = findWayBack(TARGET, {localAddress: '127.0.0.1', remoteAddress: '127.0.0.1'}, fakeFiles({texts: {}, blockDevices: {}, missing: []}))
  t.deepEqual(way, {target: TARGET.text, kind: 'tcp', host: 'store', address: '127.0.0.1', port: '7117', name: 'ice'})
})

test('an address that no card has is refused', (t) => {
  t.throws(() => findWayBack(TARGET, {localAddress: '203.0.113.77', remoteAddress: '203.0.113.1'}, fakeFiles({texts: {}, blockDevices: {}, missing: []})), {instanceOf: TargetError, message: /no network card has the address/})
})

const [outside] = Object.entries(networkInterfaces()).flatMap(([card, addresses]) => (addresses ?? []).filter(({internal, family}) => !internal && family === 'IPv4').map((each) => ({card, ...each})))

if (outside === undefined) {
  test('cards of this machine are not looked at', (t) => {
    t.log('skipped: this machine has no network card with an IPv4 address')
    t.pass()
  })
} else {
  const {card, address, mac, netmask} = outside
  const ends = {localAddress: address, remoteAddress: '203.0.113.1'}

  test('the card is told by its hardware address, with its own address', (t) => {
    const files = fakeFiles({texts: {'/proc/net/route': ''}, blockDevices: {}, missing: [`/sys/class/net/${card}/phy80211`]})
    t.like(findWayBack(TARGET, ends, files), {address: '203.0.113.1', mac, local: address, netmask})
  })

  test('a card that an initramfs cannot bring up is refused', (t) => {
    const wireless = fakeFiles({texts: {}, blockDevices: {}, missing: []})
    t.throws(() => findWayBack(TARGET, ends, wireless), {message: /is a wireless card, so the initramfs could not fetch the image/})
    const bridge = fakeFiles({texts: {}, blockDevices: {}, missing: [`/sys/class/net/${card}/device`]})
    t.throws(() => findWayBack(TARGET, ends, bridge), {message: /made of others/})
  })
}
