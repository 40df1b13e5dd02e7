import {formatFigure} from './last.js'
import {type Arguments, demandRoot, EXIT_DONE, type Surroundings, toJson} from './verb.js'

/** Ends when the machine is back at the instant of the snapshot. */
export async function selfTest({flags}: Arguments, surroundings: Surroundings): Promise<number> {
  demandRoot(surroundings, 'go to a snapshot and back')
  await using client = await surroundings.connect()
  const figures = await client.selfTest()
  if (flags.has('json')) {
    surroundings.print(toJson({ok: true, figures}))
    return EXIT_DONE
  }
  surroundings.print('Went to a snapshot and back.')
  for (const [name, value] of Object.entries(figures)) surroundings.print(`  ${formatFigure(name, Number(value))}`)
  return EXIT_DONE
}
