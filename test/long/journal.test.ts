import test from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {scratchMachine} from '../lab/scratch.js'
import {waitFor} from '../lab/workload.js'

const POLICY = '[Needed]\nUnit=flood.service\nReason=A test\n'
const FAULT = '[Service]\nEnvironment=PERMAFROST_FAULT=stream-written\n'

test('what is logged while journald has been frozen and its socket is full neither blocks nor is lost', async t => {
  await using machine = await scratchMachine('journal', {memoryMib: 768})
  // Room for four entries: unix(7), net.unix.max_dgram_qlen.
  await insideShell(machine, `
    sysctl -q net.unix.max_dgram_qlen=4
    systemctl restart systemd-journald.socket systemd-journald.service
    mkdir -p /etc/permafrost/policy.d /run/systemd/system/permafrostd.service.d
    printf %s "$1" > /etc/permafrost/policy.d/test.conf
    printf %s "$2" > /run/systemd/system/permafrostd.service.d/fault.conf
    systemctl daemon-reload
    systemctl restart permafrostd.service
    systemd-run --quiet --unit=flood sh -c 'n=0; while :; do n=$$((n+1)); printf "MESSAGE=%s\\nSYSLOG_IDENTIFIER=flood\\n" $$n | logger --journald; done'`, POLICY, FAULT)
  await waitFor(machine, '[ "$(journalctl --output=cat -t flood | wc -l)" -ge 5 ]')
  const {status} = await attemptInside(machine, ['systemctl', 'hibernate', '--no-block'])
  t.is(status, 0)
  await waitFor(machine, "journalctl --output=cat -t permafrostd | grep -q 'Failed to put system to sleep'")
  await inside(machine, ['systemctl', 'stop', 'flood.service'])

  const lines = (await inside(machine, ['journalctl', '--output=cat', '-t', 'permafrostd'])).split('\n')
  for (const expected of [/^Entering sleep state/, /^Rolled back: /, /^Failed to put system to sleep.*stream-written/])
    t.is(lines.filter(line => expected.test(line)).length, 1, `${String(expected)} in\n${lines.join('\n')}`)
  const flood = (await inside(machine, ['journalctl', '--output=cat', '-t', 'flood'])).trim().split('\n').map(Number)
  t.deepEqual(flood, flood.map((_, index) => index + 1))
  t.log(`${flood.length} entries of a daemon that ran on`)
})
