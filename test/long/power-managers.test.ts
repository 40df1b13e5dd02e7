// Who hibernates a machine without a person typing anything: UPower when the battery is nearly empty, and a desktop's power manager.
import test, {type ExecutionContext} from 'ava'
import {inside, insideShell} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemory, kernelTrouble, memoryComplaints, waitFor} from '../lab/workload.js'

/** The battery of drivers/power/supply/test_power.c, which says what its parameters are set to. */
const BATTERY = '/sys/module/test_power/parameters'
const SESSION = 'unix:path=/run/session-bus'
const DESKTOP = `busctl --address=${SESSION} call org.freedesktop.PowerManagement /org/freedesktop/PowerManagement org.freedesktop.PowerManagement`
const UPOWER = 'busctl get-property org.freedesktop.UPower /org/freedesktop/UPower org.freedesktop.UPower'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('power-managers', {memoryMib: 1024, packages: ['upower', 'xfce4-power-manager', 'xfconf', 'xvfb']})
  await insideShell(machine, `
    ${powerSupply({isOnMains: true, percent: 100})}
    systemd-run --quiet --unit=listener --property=StandardOutput=file:/run/prepare.log \\
      dbus-monitor --system "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForSleep'"`)
  await holdMemory(machine, 'hold', 100)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('UPower hibernates when the battery is nearly empty, with its own settings', async t => {
  await inside(machine, ['systemctl', 'start', 'upower.service'])
  await waitFor(machine, `[ "$(${UPOWER} OnBattery)" = 'b false' ]`)
  await insideShell(machine, powerSupply({isOnMains: false, percent: 60}))
  await waitFor(machine, `[ "$(${UPOWER} OnBattery)" = 'b true' ]`)
  // It warns first, and acts after twenty seconds.
  await hibernatesWhen(t, powerSupply({isOnMains: false, percent: 1}))
  await insideShell(machine, powerSupply({isOnMains: true, percent: 100}))
  await waitFor(machine, `[ "$(${UPOWER} OnBattery)" = 'b false' ]`)
})

test.serial("Xfce's power manager offers to hibernate, and does", async t => {
  await insideShell(machine, `
    systemd-run --quiet --unit=session-bus dbus-daemon --session --nofork --address=${SESSION}
    systemd-run --quiet --unit=display Xvfb :7 -nolisten tcp`)
  await waitFor(machine, 'test -S /run/session-bus && test -S /tmp/.X11-unix/X7')
  const session = `--setenv=DISPLAY=:7 --setenv=DBUS_SESSION_BUS_ADDRESS=${SESSION} --setenv=HOME=/root`
  await insideShell(machine, `
    systemd-run --quiet --wait ${session} xfconf-query -c xfce4-power-manager -n -t bool -s false \\
      -p /xfce4-power-manager/lock-screen-suspend-hibernate
    systemd-run --quiet --unit=xfce4-power-manager ${session} xfce4-power-manager --no-daemon`)
  await waitFor(machine, `[ "$(${DESKTOP} CanHibernate 2> /dev/null)" = 'b true' ]`)
  await hibernatesWhen(t, `${DESKTOP} Hibernate`)
  t.is(await insideShell(machine, `${DESKTOP} CanHibernate`), 'b true\n')
})

test.serial('the kernel has not complained', t => {
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
})

/** Everybody is told before and after, memory is as it was, and the image was made by us. */
async function hibernatesWhen(t: ExecutionContext, cause: string): Promise<void> {
  const before = await checkMemory(machine, 'hold')
  const heardBefore = await heard()
  await insideShell(machine, 'printf "#!/bin/sh\\n%s\\n" "$1" > /root/cause; chmod +x /root/cause', cause)
  const saved = await hibernate(machine, ['/root/cause'])
  t.true(saved.ok, saved.reason ?? '')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  await waitFor(machine, `[ "$(grep -c boolean /run/prepare.log)" -ge ${heardBefore.length + 2} ]`)
  t.deepEqual((await heard()).slice(heardBefore.length), ['true', 'false'])
}

async function heard(): Promise<readonly string[]> {
  return [...(await inside(machine, ['cat', '/run/prepare.log'])).matchAll(/boolean (true|false)/g)].map(([, value]) => value ?? '')
}

function powerSupply({isOnMains, percent}: {readonly isOnMains: boolean, readonly percent: number}): string {
  const mains = isOnMains ? 'on' : 'off'
  return Object.entries({
    battery_capacity: percent, battery_status: isOnMains ? 'charging' : 'discharging', ac_online: mains, usb_online: mains
  }).map(([name, value]) => `echo ${value} > ${BATTERY}/${name}`).join('\n')
}
