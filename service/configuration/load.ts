import {ConfigurationError} from '../errors.js'
import {type Configuration} from './configuration.js'
import {DIRECTORIES, readDropIns, readMainFile, type TextFile} from './drop-ins.js'
import {type Assignment, parseSections} from './sections.js'
import {parseTarget} from './target.js'
import {parseAbsolutePath, parseBoolean, parseInteger, parseSize, parseTimeSpan} from './values.js'

interface Field<Value> {
  readonly section: string
  readonly key: string
  readonly fallback: Value
  readonly expected: string
  /** Undefined when the text is not such a value. */
  readonly parse: (text: string) => Value | undefined
}

/** Every key of permafrost.conf, once: what it is called there and here, and what it may be. */
const FIELDS: {readonly [Name in keyof Configuration]: Field<Configuration[Name]>} = {
  spareDevice: {
    section: 'Image',
    key: 'Spare',
    fallback: null,
    expected: "a device such as '/dev/disk/by-id/virtio-spare'",
    parse: (text) => (text.startsWith('/dev/') ? parseAbsolutePath(text) : undefined),
  },
  target: {
    section: 'Image',
    key: 'Target',
    fallback: null,
    expected: "'tcp://HOST:PORT/NAME', 'tls://HOST:PORT/NAME' or 'command:COMMAND'",
    parse: parseTarget,
  },
  targetTimeoutMs: {
    section: 'Image',
    key: 'TargetTimeoutSec',
    fallback: 30_000,
    expected: "a time from '1s' to '1h'",
    parse: (text) => within(parseTimeSpan(text), 1000, 3_600_000),
  },
  overheadBytes: {
    section: 'Memory',
    key: 'Overhead',
    fallback: 24 * 2 ** 20,
    expected: "a size from '1M' to '1T'",
    parse: (text) => within(parseSize(text), 2 ** 20, 2 ** 40),
  },
  freezeTimeoutMs: {
    section: 'Freeze',
    key: 'FreezeTimeoutSec',
    fallback: 20_000,
    expected: "a time from '100ms' to '1h'",
    parse: (text) => within(parseTimeSpan(text), 100, 3_600_000),
  },
  dropsPageCache: {
    section: 'Memory',
    key: 'DropPageCache',
    fallback: true,
    expected: "'yes' or 'no'",
    parse: parseBoolean,
  },
  compressionThreads: {
    section: 'Compression',
    key: 'Threads',
    fallback: 0,
    expected: "a number from '0' (one for each CPU) to '64'",
    parse: (text) => within(parseInteger(text), 0, 64),
  },
  isCompressionAdaptive: {
    section: 'Compression',
    key: 'Adaptive',
    fallback: false,
    expected: "'yes' or 'no'",
    parse: parseBoolean,
  },
}

/**
 * Reads permafrost.conf and permafrost.conf.d/*.conf of all directories; a later assignment
 * wins, an empty one brings the default back. Throws ConfigurationError on the first wrong line.
 */
export function loadConfiguration(directories: readonly string[] = DIRECTORIES): Configuration {
  const main = readMainFile('permafrost.conf', directories)
  const files = [...(main === null ? [] : [main]), ...readDropIns('permafrost.conf.d', directories)]
  return parseConfiguration(files)
}

export function parseConfiguration(files: readonly TextFile[]): Configuration {
  const values = {...defaults()}
  for (const {file, text} of files) {
    for (const section of parseSections(text, file, ConfigurationError)) {
      const names = fieldNames().filter((name) => FIELDS[name].section === section.name)
      if (names.length === 0) {
        throw new ConfigurationError(file, section.line, `[${section.name}]`, `one of ${knownSections()}`)
      }
      for (const assignment of section.assignments) {
        const name = names.find((candidate) => FIELDS[candidate].key === assignment.key)
        if (name === undefined) {
          throw new ConfigurationError(file, assignment.line, `${assignment.key}=`, `one of ${knownKeys(section.name)}`)
        }
        assign(values, name, assignment, file)
      }
    }
  }
  return values
}

type Mutable<Type> = {-readonly [Name in keyof Type]: Type[Name]}

function assign<Name extends keyof Configuration>(
  values: Mutable<Configuration>,
  name: Name,
  assignment: Assignment,
  file: string,
): void {
  const field: Field<Configuration[Name]> = FIELDS[name]
  const value = assignment.value === '' ? field.fallback : field.parse(assignment.value)
  if (value === undefined) throw new ConfigurationError(file, assignment.line, assignment.value, field.expected)
  values[name] = value
}

function defaults(): Configuration {
  return {
    spareDevice: FIELDS.spareDevice.fallback,
    target: FIELDS.target.fallback,
    targetTimeoutMs: FIELDS.targetTimeoutMs.fallback,
    overheadBytes: FIELDS.overheadBytes.fallback,
    freezeTimeoutMs: FIELDS.freezeTimeoutMs.fallback,
    dropsPageCache: FIELDS.dropsPageCache.fallback,
    compressionThreads: FIELDS.compressionThreads.fallback,
    isCompressionAdaptive: FIELDS.isCompressionAdaptive.fallback,
  }
}

function fieldNames(): readonly (keyof Configuration)[] {
  return ['spareDevice', 'target', 'targetTimeoutMs', 'overheadBytes', 'dropsPageCache', 'freezeTimeoutMs', 'compressionThreads', 'isCompressionAdaptive']
}

function knownSections(): string {
  return [...new Set(fieldNames().map((name) => `[${FIELDS[name].section}]`))].join(', ')
}

function knownKeys(section: string): string {
  return fieldNames()
    .filter((name) => FIELDS[name].section === section)
    .map((name) => `${FIELDS[name].key}=`)
    .join(', ')
}

function within(value: number | undefined, least: number, most: number): number | undefined {
  return value !== undefined && value >= least && value <= most ? value : undefined
}
