import {readFileSync} from 'node:fs'
import {parseArgs} from 'node:util'
import {type Arguments, EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, EXIT_USAGE, type Surroundings, toJson, type Verb} from './verb.js'
import {VERBS} from './verbs.js'
import {SIDE_DOOR} from '../edge/side-door.js'
import {causeText, PermafrostError, RefusedError, UsageError} from '../errors.js'

/** Runs one command line; gives its exit status and never throws. */
export async function runCommandLine(parameters: readonly string[], surroundings: Surroundings): Promise<number> {
  const isJson = parameters.includes('--json')
  try {
    const [name, ...rest] = parameters
    if (name === 'help' && rest[0] !== undefined) {
      for (const line of verbHelp(findVerb(rest[0]))) surroundings.print(line)
      return EXIT_DONE
    }
    if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
      for (const line of generalHelp()) surroundings.print(line)
      return name === undefined ? EXIT_USAGE : EXIT_DONE
    }
    if (name === '--version') {
      surroundings.print(`permafrost ${readVersion()}`)
      return EXIT_DONE
    }
    const verb = findVerb(name)
    if (rest.includes('--help') || rest.includes('-h')) {
      for (const line of verbHelp(verb)) surroundings.print(line)
      return EXIT_DONE
    }
    const given = parseWords(verb, rest)
    const run = await verb.load()
    return await run(given, surroundings)
  } catch (error) {
    if (isJson) surroundings.print(toJson({ok: false, error: errorName(error), reason: causeText(error)}))
    surroundings.complain(causeText(error))
    return exitStatus(error)
  }
}

export function exitStatus(error: unknown): number {
  if (error instanceof UsageError) return EXIT_USAGE
  return error instanceof RefusedError ? EXIT_REFUSED : EXIT_FAILED
}

/** The surroundings of a real process. */
export function processSurroundings(): Surroundings {
  const {stdout, stdin} = process
  return {
    print: (line) => stdout.write(`${line}\n`),
    complain: (sentence) => process.stderr.write(`permafrost: ${sentence}\n`),
    redraw: stdout.isTTY ? (line) => stdout.write(`\r\u001B[K${line}`) : null,
    ask: stdin.isTTY && stdout.isTTY ? askTerminal : null,
    connect: async () => await (await import('../bus/client.js')).PermafrostClient.connect(),
    sideDoor: process.env['PERMAFROST_SIDE_DOOR'] ?? SIDE_DOOR,
    isRoot: process.geteuid?.() === 0,
  }
}

async function askTerminal(question: string): Promise<string> {
  const {createInterface} = await import('node:readline/promises')
  const terminal = createInterface({input: process.stdin, output: process.stdout})
  try {
    return await terminal.question(question)
  } finally {
    terminal.close()
  }
}

/** Of the package.json that lies beside `service/`, in the repository and where it is installed. */
function readVersion(): string {
  const {version} = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {readonly version: string}
  return version
}

function findVerb(name: string): Verb {
  const verb = VERBS.find((each) => each.name === name)
  if (verb !== undefined) return verb
  const similar = VERBS.find((each) => name !== '' && (each.name.startsWith(name) || name.startsWith(each.name)))
  const hint = similar === undefined ? "see 'permafrost --help'" : `did you mean '${similar.name}'?`
  throw new UsageError(`Cannot run '${name}': there is no such verb; ${hint}`)
}

function parseWords(verb: Verb, parameters: readonly string[]): Arguments {
  const known = ['json', ...Object.keys(verb.flags)]
  try {
    const {values, positionals} = parseArgs({
      args: [...parameters],
      options: Object.fromEntries(known.map((flag) => [flag, {type: verb.valued?.includes(flag) === true ? 'string' : 'boolean'}] as const)),
      allowPositionals: true,
    })
    const [least, most] = verb.words
    if (positionals.length < least || positionals.length > most) {
      throw new UsageError(`Cannot run '${verb.name}': the form is '${usage(verb)}'`)
    }
    const texts = Object.entries(values).filter((each): each is [string, string] => typeof each[1] === 'string')
    return {words: positionals, flags: new Set(Object.keys(values)), values: Object.fromEntries(texts)}
  } catch (error) {
    if (error instanceof UsageError) throw error
    const [reason = ''] = causeText(error).split('. ')
    throw new UsageError(`Cannot run '${verb.name}': ${reason}`, {cause: error})
  }
}

function usage(verb: Verb): string {
  return ['permafrost', verb.name, verb.parameters].filter((word) => word !== '').join(' ')
}

function generalHelp(): readonly string[] {
  return [
    'Usage: permafrost VERB [--json]',
    '',
    ...VERBS.map((verb) => `  ${`${verb.name} ${verb.parameters}`.padEnd(36)} ${verb.summary}`),
    '',
    "  permafrost VERB --help shows more, permafrost --version which one this is. Exit status: 0 done, 1 failed and rolled back, 2 wrong usage, 3 refused.",
    '',
    'Example: permafrost setup /dev/disk/by-id/ata-SPARE_123 && permafrost check && systemctl hibernate',
  ]
}

function verbHelp(verb: Verb): readonly string[] {
  const flags = {...verb.flags, json: 'print one JSON object a line'}
  return [
    `Usage: ${usage(verb)}`,
    '',
    verb.summary,
    '',
    ...Object.entries(flags).map(([flag, meaning]) => `  --${flag.padEnd(8)} ${meaning}`),
    '',
    `Example: ${verb.example}`,
  ]
}

function errorName(error: unknown): string {
  return error instanceof PermafrostError ? error.busName : 'org.permafrost1.Error.Failed'
}
