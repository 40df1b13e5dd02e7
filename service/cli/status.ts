import {type PermafrostClient} from '../bus/client.js'
import {type ManagerProperties} from '../bus/interface.js'
import {percent} from '../edge/progress.js'
import {BusLostError} from '../errors.js'
import {formatFigure, showLast} from './last.js'
import {type Arguments, EXIT_DONE, type Surroundings, toJson} from './verb.js'

export async function showStatus({flags}: Arguments, surroundings: Surroundings): Promise<number> {
  if (flags.has('last')) return await showLast(flags.has('json'), surroundings)
  await using client = await surroundings.connect()
  const show = (properties: ManagerProperties): void => {
    if (flags.has('json')) surroundings.print(statusJson(properties))
    else for (const line of statusLines(properties)) surroundings.print(line)
  }
  if (!flags.has('watch')) {
    show(await client.properties())
    return EXIT_DONE
  }
  const {redraw} = surroundings
  const isDrawn = redraw !== null && !flags.has('json')
  await watch(client, isDrawn ? (properties) => redraw(progressBar(properties)) : show)
  throw new BusLostError()
}

/** Asks again after each change, one question at a time. */
async function watch(client: PermafrostClient, show: (properties: ManagerProperties) => void): Promise<void> {
  let isAsking = false
  let isDue = false
  const refresh = async (): Promise<void> => {
    isDue = true
    if (isAsking) return
    isAsking = true
    while (isDue) {
      isDue = false
      show(await client.properties())
    }
    isAsking = false
  }
  await refresh()
  await client.watch(() => {
    refresh().catch(() => undefined) // The bus is gone, and `watch` is about to say so.
  })
}

export function statusLines(properties: ManagerProperties): readonly string[] {
  return [
    `State        ${properties.State}`,
    ...(properties.State === 'saving' ? [`Progress     ${percent(properties.Progress)} %${left(properties)}`] : []),
    `Last result  ${properties.LastResult === '' ? 'none yet' : properties.LastResult}`,
    ...Object.entries(properties.LastFigures).map(([name, value]) => `  ${formatFigure(name, Number(value))}`),
  ]
}

export function progressBar(properties: ManagerProperties): string {
  const {State, Progress, LastResult} = properties
  if (State !== 'saving') return State === 'idle' && LastResult !== '' ? `idle (${LastResult})` : State
  const cells = 40
  const full = Math.round(Math.min(Math.max(Progress, 0), 1) * cells)
  return `saving [${'#'.repeat(full)}${'.'.repeat(cells - full)}] ${percent(Progress)} %${left(properties)}`
}

function left({TimeLeftUSec}: ManagerProperties): string {
  return TimeLeftUSec === null ? '' : `, ${Math.ceil(Number(TimeLeftUSec) / 1e6)} s left`
}

function statusJson(properties: ManagerProperties): string {
  return toJson({
    ok: true,
    state: properties.State,
    progress: properties.Progress,
    secondsLeft: properties.TimeLeftUSec === null ? null : Number(properties.TimeLeftUSec) / 1e6,
    imageBytes: properties.ImageBytes,
    lastResult: properties.LastResult,
    lastFigures: properties.LastFigures,
  })
}
