// Which of the two ways systemd-hibernate.service takes: the in-kernel one of systemd, or ours.
import {inside} from './execute.js'
import type {Machine} from './machine.js'

export type Compressor = 'lz4' | 'lzo'

/** After every drop-in of ours: the unit is systemd's own again, until `hibernate` removes it. */
const DROP_IN = '/run/systemd/system/systemd-hibernate.service.d/90-stock.conf'

/** Both ways end by 'shutdown'; everything else is what systemd-sleep does by itself. */
const TAKE_STOCK_PATH = `
mkdir -p "\${1%/*}" /run/systemd/sleep.conf.d
printf '[Service]\\nExecStart=\\nExecStart=/lib/systemd/systemd-sleep hibernate\\n' > "$1"
printf '[Sleep]\\nHibernateMode=shutdown\\n' > /run/systemd/sleep.conf.d/90-stock.conf
systemctl daemon-reload
echo "$2" > /sys/module/hibernate/parameters/compressor
`

const TAKE_OUR_PATH = `
if [ -e "$1" ]; then
  rm "$1" /run/systemd/sleep.conf.d/90-stock.conf
  systemctl daemon-reload
fi
`

export async function takeStockPath(machine: Machine, compressor: Compressor): Promise<void> {
  await inside(machine, ['sh', '-euc', TAKE_STOCK_PATH, 'sh', DROP_IN, compressor])
}

/** Gives the unit back to Permafrost where the stock path was taken before. */
export async function leaveStockPath(machine: Machine): Promise<void> {
  await inside(machine, ['sh', '-euc', TAKE_OUR_PATH, 'sh', DROP_IN])
}
