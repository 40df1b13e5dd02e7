import {EXIT_DONE, EXIT_REFUSED, toJson, type Verb} from './verb.js'

export const checkVerb: Verb = {
  name: 'check',
  parameters: '',
  summary: 'Say whether the machine could hibernate, and if not, what to do',
  example: 'permafrost check || echo "not yet"',
  flags: {},
  words: [0, 0],
  async run({flags}, {connect, print}) {
    await using client = await connect()
    const checks = await client.check()
    const passed = checks.every((each) => each.passed)
    if (flags.has('json')) {
      print(toJson({ok: passed, checks}))
    } else {
      for (const each of checks) print(each.passed ? `ok       ${each.title}` : `missing  ${each.title}: ${each.remedy}`)
    }
    return passed ? EXIT_DONE : EXIT_REFUSED
  },
}

export const neededVerb: Verb = {
  name: 'needed',
  parameters: '',
  summary: 'List the processes that would keep running, and the line that says so',
  example: 'permafrost needed --json',
  flags: {},
  words: [0, 0],
  async run({flags}, {connect, print}) {
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
  },
}

export const abortVerb: Verb = {
  name: 'abort',
  parameters: '',
  summary: 'Stop a hibernation that is under way; the machine goes on as it is',
  example: 'permafrost abort',
  flags: {},
  words: [0, 0],
  async run({flags}, {connect, print}) {
    await using client = await connect()
    await client.abort()
    if (flags.has('json')) print(toJson({ok: true}))
    return EXIT_DONE
  },
}
