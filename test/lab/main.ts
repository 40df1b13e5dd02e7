// npm run lab -- VERB …: the laboratory's command line.
import {VERBS} from './command-line.js'
import {LaboratoryError, MachineError, messageOf, UsageError} from './errors.js'

async function main(words: readonly string[]): Promise<number> {
  const [name, ...rest] = words
  const verb = VERBS[name ?? 'help']
  if (verb === undefined)
    throw new UsageError(`There is no verb '${name ?? ''}'\n${helpText()}`)
  return await verb.run(rest)
}

function helpText(): string {
  return Object.entries(VERBS).map(([name, verb]) => `  ${name} ${verb.usage}`).join('\n')
}

function statusOf(thrown: unknown): number {
  return thrown instanceof UsageError ? 2 : thrown instanceof MachineError ? 1 : thrown instanceof LaboratoryError ? 3 : 3
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (thrown) {
  const isForeseen = thrown instanceof UsageError || thrown instanceof MachineError || thrown instanceof LaboratoryError
  process.stderr.write(`lab: ${isForeseen || !(thrown instanceof Error) ? messageOf(thrown) : thrown.stack ?? ''}\n`)
  process.exitCode = statusOf(thrown)
}
