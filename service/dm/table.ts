import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import {DeviceMapperError} from '../errors.js'
import {parseTarget, printTarget, type Target} from './targets.js'
import {sectors, type Sectors} from './units.js'

/** The targets of a device, in order, without gaps. */
export type Table = readonly Target[]

/** `device` names the device in the error. */
export function parseTable(text: string, device: string): Table {
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  const table = lines.map((line) => {
    const target = parseTarget(line)
    // The line itself stays out of the message: a crypt target's has the key in it.
    if (target === null) throw new DeviceMapperError('read the table of', device, 'a line of it is malformed')
    return target
  })
  if (table.length === 0) throw new DeviceMapperError('read the table of', device, 'it has none')
  return table
}

export function printTable(table: Table): string {
  return table.map((target) => `${printTarget(target)}\n`).join('')
}

export function tableLength(table: Table): Sectors {
  return sectors(table.reduce((end, target) => Math.max(end, target.start + target.length), 0))
}

const TEMPLATE_NAMES = ['base', 'cow', 'cow-encrypted', 'snapshot', 'merge', 'linear-wrap'] as const
export type TemplateName = (typeof TEMPLATE_NAMES)[number]

/** Fills the named template; throws when a parameter is missing, or is one the template does not know. */
export type FillTemplate = (name: TemplateName, parameters: Readonly<Record<string, string | number>>) => Table

/** Reads all of `dm-tables/` at once, since it must not be read any more when file systems are frozen. */
export function loadTemplates(directory: string): FillTemplate {
  const templates = new Map(TEMPLATE_NAMES.map((name) => [name, stripComments(readFileSync(join(directory, `${name}.table`), 'utf8'))]))
  return (name, parameters) => {
    const unknown = new Set(Object.keys(parameters))
    const text = (templates.get(name) ?? '').replaceAll(/\{(\w+)\}/g, (_, parameter: string) => {
      const value = parameters[parameter]
      if (value === undefined) throw new DeviceMapperError('fill template', name, `'${parameter}' is missing`)
      unknown.delete(parameter)
      return String(value)
    })
    for (const parameter of unknown) throw new DeviceMapperError('fill template', name, `'${parameter}' is unknown to it`)
    return parseTable(text, name)
  }
}

function stripComments(text: string): string {
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
}
