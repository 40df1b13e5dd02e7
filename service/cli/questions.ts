import {fromBusError} from '../bus/errors.js'
import {knockAtSideDoor} from '../edge/side-door.js'
import {type Arguments, EXIT_DONE, EXIT_REFUSED, type Surroundings, toJson} from './verb.js'

export async function check({flags}: Arguments, {connect, print}: Surroundings): Promise<number> {
  await using client = await connect()
  const checks = await client.check()
  const passed = checks.every((each) => each.passed)
  if (flags.has('json')) {
    print(toJson({ok: passed, checks}))
  } else {
    for (const each of checks) print(each.passed ? `ok       ${each.title}` : `missing  ${each.title}: ${each.remedy}`)
  }
  return passed ? EXIT_DONE : EXIT_REFUSED
}

export async function listNeeded({flags}: Arguments, {connect, print}: Surroundings): Promise<number> {
  await using client = await connect()
  const processes = await client.listNeeded()
  if (flags.has('json')) {
    print(toJson({ok: true, processes}))
    return EXIT_DONE
  }
  if (processes.length === 0) print('No process would keep running.')
  for (const {pid, command, unit, line} of processes) {
    print(`${String(pid).padStart(7)} ${command.padEnd(15)} ${(unit ?? '-').padEnd(30)} ${line}`)
  }
  return EXIT_DONE
}

/** Beside the bus where that is possible: it stands still while the image is saved. */
export async function abort({flags}: Arguments, {connect, print, sideDoor}: Surroundings): Promise<number> {
  const refusal = await knockAtSideDoor(sideDoor)
  if (refusal === undefined) {
    await using client = await connect()
    await client.abort()
  } else if (refusal !== null) {
    throw fromBusError(refusal.name, refusal.text)
  }
  if (flags.has('json')) print(toJson({ok: true}))
  return EXIT_DONE
}
