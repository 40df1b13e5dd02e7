import {parseDeviceNumber, printDeviceNumber, type DeviceNumber} from '../edge/device-number.js'
import {sectors, type Sectors} from './units.js'

interface Extent {
  readonly start: Sectors
  readonly length: Sectors
}

export interface LinearTarget extends Extent {
  readonly kind: 'linear'
  readonly device: DeviceNumber
  readonly offset: Sectors
}

export interface StripedTarget extends Extent {
  readonly kind: 'striped'
  readonly chunk: Sectors
  readonly stripes: readonly {readonly device: DeviceNumber; readonly offset: Sectors}[]
}

/** Cipher, key and options are carried as they are: nobody here may make anything of them. */
export interface CryptTarget extends Extent {
  readonly kind: 'crypt'
  readonly cipher: string
  readonly key: string
  readonly ivOffset: Sectors
  readonly device: DeviceNumber
  readonly offset: Sectors
  readonly options: readonly string[]
}

export interface SnapshotTarget extends Extent {
  readonly kind: 'snapshot' | 'snapshot-merge'
  readonly origin: DeviceNumber
  readonly cow: DeviceNumber
  /** P: persistent, N: not, PO: persistent and reporting when it is full. */
  readonly store: string
  readonly chunk: Sectors
  readonly options: readonly string[]
}

export function isSnapshotTarget(target: Target): target is SnapshotTarget {
  return target.kind === 'snapshot' || target.kind === 'snapshot-merge'
}

/** Any target of which nothing is known but its name. */
export interface OtherTarget extends Extent {
  readonly kind: 'other'
  readonly name: string
  readonly parameters: string
}

export type Target = LinearTarget | StripedTarget | CryptTarget | SnapshotTarget | OtherTarget

/** One line of a table; null when it is not one: dmsetup(8), "TABLE FORMAT". */
export function parseTarget(line: string): Target | null {
  const match = /^(\d+) (\d+) (\S+) ?(.*)$/.exec(line.trim())
  if (match === null) return null
  const [, start = '', length = '', name = '', parameters = ''] = match
  const extent = {start: parseSectors(start), length: parseSectors(length)}
  if (extent.start === null || extent.length === null) return null
  const parse = PARSERS[name]
  const words = parameters === '' ? [] : parameters.split(/\s+/)
  const whole = {start: extent.start, length: extent.length}
  return parse === undefined ? {kind: 'other', ...whole, name, parameters} : parse(whole, words)
}

export function printTarget(target: Target): string {
  return `${target.start} ${target.length} ${typeOf(target)} ${printParameters(target)}`.trimEnd()
}

type Parse = (extent: Extent, words: readonly string[]) => Target | null

const PARSERS: Readonly<Record<string, Parse>> = {
  linear: parseLinear,
  striped: parseStriped,
  crypt: parseCrypt,
  snapshot: (extent, words) => parseSnapshot('snapshot', extent, words),
  'snapshot-merge': (extent, words) => parseSnapshot('snapshot-merge', extent, words),
}

function parseLinear(extent: Extent, words: readonly string[]): Target | null {
  const [deviceText = '', offsetText = '', ...more] = words
  const device = parseDeviceNumber(deviceText)
  const offset = parseSectors(offsetText)
  return device === null || offset === null || more.length > 0 ? null : {kind: 'linear', ...extent, device, offset}
}

function parseStriped(extent: Extent, words: readonly string[]): Target | null {
  const [countText = '', chunkText = '', ...places] = words
  const chunk = parseSectors(chunkText)
  if (chunk === null || places.length !== Number(countText) * 2 || places.length === 0) return null
  const stripes: {device: DeviceNumber; offset: Sectors}[] = []
  for (let index = 0; index < places.length; index += 2) {
    const device = parseDeviceNumber(places[index] ?? '')
    const offset = parseSectors(places[index + 1] ?? '')
    if (device === null || offset === null) return null
    stripes.push({device, offset})
  }
  return {kind: 'striped', ...extent, chunk, stripes}
}

function parseCrypt(extent: Extent, words: readonly string[]): Target | null {
  const [cipher, key, ivText = '', deviceText = '', offsetText = '', ...options] = words
  const ivOffset = parseSectors(ivText)
  const device = parseDeviceNumber(deviceText)
  const offset = parseSectors(offsetText)
  if (cipher === undefined || key === undefined || ivOffset === null || device === null || offset === null) return null
  return {kind: 'crypt', ...extent, cipher, key, ivOffset, device, offset, options}
}

function parseSnapshot(kind: SnapshotTarget['kind'], extent: Extent, words: readonly string[]): Target | null {
  const [originText = '', cowText = '', store, chunkText = '', ...options] = words
  const origin = parseDeviceNumber(originText)
  const cow = parseDeviceNumber(cowText)
  const chunk = parseSectors(chunkText)
  if (origin === null || cow === null || store === undefined || chunk === null) return null
  return {kind, ...extent, origin, cow, store, chunk, options}
}

function parseSectors(text: string): Sectors | null {
  const count = Number(text)
  return /^\d+$/.test(text) && Number.isSafeInteger(count) ? sectors(count) : null
}

/** As the kernel calls it. */
export function typeOf(target: Target): string {
  return target.kind === 'other' ? target.name : target.kind
}

export function printParameters(target: Target): string {
  switch (target.kind) {
    case 'linear':
      return `${printDeviceNumber(target.device)} ${target.offset}`
    case 'striped':
      return [
        target.stripes.length,
        target.chunk,
        ...target.stripes.map(({device, offset}) => `${printDeviceNumber(device)} ${offset}`),
      ].join(' ')
    case 'crypt':
      return [target.cipher, target.key, target.ivOffset, printDeviceNumber(target.device), target.offset, ...target.options].join(' ')
    case 'snapshot':
    case 'snapshot-merge':
      return [printDeviceNumber(target.origin), printDeviceNumber(target.cow), target.store, target.chunk, ...target.options].join(' ')
    case 'other':
      return target.parameters
    default:
      return target satisfies never
  }
}
