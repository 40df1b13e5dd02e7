// Databases in use: sqlite, and PostgreSQL under pgbench.
import {attemptInside, inside, insideShell} from '../../lab/execute.js'
import type {Machine} from '../../lab/machine.js'
import {checkDatabase, startDatabase, waitFor} from '../../lab/workload.js'
import {complaintsAboutUnit, startUnit, stateOfUnit, wordsOfUnit, type Work} from './work.js'

const SQLITE_PATH = '/var/lib/data.sqlite'

export const SQLITE: Work = {
  title: 'sqlite',
  packages: [],
  units: ['database'],
  start: async machine => { await startDatabase(machine, 'database', SQLITE_PATH) },
  watch: async machine => {
    const before = await checkDatabase(machine, SQLITE_PATH)
    return async resumed => {
      await waitFor(resumed, `[ "$(sqlite3 -cmd '.timeout 5000' ${SQLITE_PATH} 'select count(*) from beat')" -gt ${before.rows} ]`)
      const {rows, lastId, integrity} = await checkDatabase(resumed, SQLITE_PATH)
      return [
        ...(integrity === 'ok' ? [] : [integrity]),
        ...(rows === lastId ? [] : [`it has ${rows} rows, and the last is number ${lastId}`])
      ]
    }
  }
}

/** Where Debian 12 puts the programs of PostgreSQL. */
const PROGRAMS = '/usr/lib/postgresql/15/bin'
const CLUSTER = '/mnt/data/postgresql'
const SOCKETS = '/run/soak-postgresql'
const SERVER = 'soak-postgresql'
const CLIENTS = 'soak-pgbench'
const PATIENCE_MS = 900_000

/** A transaction adds the same to an account, a teller and a branch, and writes it into the history. */
const BALANCES = `
  select (select count(*) from pgbench_history),
    (select coalesce(sum(delta), 0) from pgbench_history), (select sum(abalance) from pgbench_accounts),
    (select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches)`

interface Balances {
  readonly transactions: number
  /** Of history, accounts, tellers and branches: all the same. */
  readonly sums: readonly number[]
}

export const POSTGRESQL: Work = {
  title: 'PostgreSQL under pgbench',
  packages: ['postgresql'],
  units: [SERVER, CLIENTS],
  start: startPostgresql,
  watch: async machine => {
    const [server, clients] = [await stateOfUnit(machine, SERVER), await stateOfUnit(machine, CLIENTS)]
    const before = await readBalances(machine)
    return async resumed => {
      const complaints = [
        ...complaintsAboutUnit(SERVER, server, await stateOfUnit(resumed, SERVER)),
        ...complaintsAboutUnit(CLIENTS, clients, await stateOfUnit(resumed, CLIENTS))
      ]
      if (complaints.length > 0)
        return [...complaints, await wordsOfUnit(resumed, SERVER), await wordsOfUnit(resumed, CLIENTS)]
      return [...await judgeBalances(resumed, before), ...await checkIndexes(resumed), ...await errorsOfServer(resumed)]
    }
  }
}

async function startPostgresql(machine: Machine): Promise<void> {
  // The package starts a server of its own.
  await inside(machine, ['systemctl', 'disable', '--quiet', '--now', 'postgresql.service'])
  await insideShell(machine, `
    install --directory --owner=postgres --group=postgres --mode=700 "$1"
    runuser -u postgres -- "$2/initdb" --pgdata="$1" --data-checksums --auth=trust --encoding=UTF8 --locale=C --no-sync > /dev/null`,
  CLUSTER, PROGRAMS)
  await startUnit(machine, {
    unit: SERVER,
    properties: ['Type=notify', 'User=postgres', `RuntimeDirectory=${SERVER}`, 'TimeoutStartSec=5min'],
    argv: [`${PROGRAMS}/postgres`, '-D', CLUSTER, '-k', SOCKETS, '-c', 'listen_addresses=', '-c', 'shared_buffers=32MB']
  })
  await inside(machine, ['pgbench', '--host', SOCKETS, '--username=postgres', '--initialize', '--quiet', '--scale=2', 'postgres'], {timeoutMs: PATIENCE_MS})
  await inside(machine, ['psql', '--host', SOCKETS, '--username=postgres', '--quiet', '--command=create extension amcheck', 'postgres'])
  await startUnit(machine, {
    unit: CLIENTS,
    properties: ['User=postgres'],
    argv: ['pgbench', '--host', SOCKETS, '--client=4', '--no-vacuum', '--rate=20', '--time=100000000', 'postgres']
  })
}

async function judgeBalances(machine: Machine, before: Balances): Promise<string[]> {
  await waitFor(machine, `[ "$(${psql('select count(*) from pgbench_history')})" -gt ${before.transactions} ]`)
  const {sums} = await readBalances(machine)
  return sums.length === 4 && sums.every(sum => sum === sums[0]) ? [] : [`the sums of history, accounts, tellers and branches differ: ${sums.join(', ')}`]
}

async function readBalances(machine: Machine): Promise<Balances> {
  const [transactions, ...sums] = (await insideShell(machine, psql(BALANCES))).trim().split('|').map(Number)
  return {transactions: transactions ?? 0, sums}
}

/** One line of fields with bars between them; the query has no double quote. */
function psql(query: string): string {
  return `psql --host ${SOCKETS} --username=postgres --no-psqlrc --no-align --tuples-only --command="${query}" postgres`
}

/** Exit status 2 is a table or an index that is damaged (pg_amcheck(1)); every row is looked for in every index. */
async function checkIndexes(machine: Machine): Promise<string[]> {
  const {status, stdout, stderr} = await attemptInside(
    machine, [`${PROGRAMS}/pg_amcheck`, '--host', SOCKETS, '--username=postgres', '--heapallindexed', 'postgres'], {timeoutMs: PATIENCE_MS})
  return status === 0 ? [] : [`pg_amcheck ended with ${status}: ${(stdout + stderr).trim()}`]
}

async function errorsOfServer(machine: Machine): Promise<string[]> {
  const words = await inside(machine, ['journalctl', '--quiet', '--no-pager', '--output=cat', `--unit=${SERVER}`])
  return words.split('\n').filter(line => /\b(ERROR|FATAL|PANIC):|invalid page|checksum/.test(line))
}

export const DATABASES: readonly Work[] = [SQLITE, POSTGRESQL]
