import {fromBusError} from '../bus/errors.js'
import {knockAtSideDoor} from '../edge/side-door.js'
import {UsageError} from '../errors.js'
import {type Arguments, EXIT_DONE, EXIT_REFUSED, type Surroundings, toJson, wordAt} from './verb.js'

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

export async function listNeeded(given: Arguments, surroundings: Surroundings): Promise<number> {
  const {flags, words} = given
  if (flags.has('explain')) return await explainNeeded(given, surroundings)
  if (words.length > 0) throw new UsageError("Cannot run 'needed': a process is named behind '--explain'")
  const {connect, print} = surroundings
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

async function explainNeeded(given: Arguments, {connect, print}: Surroundings): Promise<number> {
  const pid = parsePid(wordAt(given, 0, 'the number of a process'))
  await using client = await connect()
  const explanation = await client.explainNeeded(pid)
  print(given.flags.has('json') ? toJson({ok: true, pid, ...explanation}) : explanation.sentence)
  return EXIT_DONE
}

function parsePid(text: string): number {
  // proc(5), pid_max: the largest there can be is 2^22.
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new UsageError(`Cannot explain '${text}': expected the number of a process`)
  return Number(text)
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
