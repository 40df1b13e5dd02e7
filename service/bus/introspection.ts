import {readFileSync} from 'node:fs'

export interface MethodSignature {
  readonly input: string
  readonly output: string
}

export interface InterfaceDescription {
  readonly methods: ReadonlyMap<string, MethodSignature>
  /** Name → type; all of ours are read-only. */
  readonly properties: ReadonlyMap<string, string>
  /** Name → signature. */
  readonly signals: ReadonlyMap<string, string>
}

export interface Introspection {
  readonly xml: string
  readonly interfaces: ReadonlyMap<string, InterfaceDescription>
}

/** Reads org.permafrost1.xml, from beside this file. */
export function readIntrospection(): Introspection {
  return parseIntrospection(readFileSync(new URL('org.permafrost1.xml', import.meta.url), 'utf8'))
}

/** Understands the flat form our own file is written in, one object without children. */
export function parseIntrospection(xml: string): Introspection {
  const bare = xml.replace(/<!--[\s\S]*?-->/g, '')
  const interfaces = new Map<string, InterfaceDescription>()
  for (const {name, body} of elements(bare, 'interface')) {
    const properties = elements(body, 'property').map((each) => [each.name, each.attributes['type'] ?? ''] as const)
    interfaces.set(name, {
      methods: new Map(elements(body, 'method').map((each) => [each.name, {
        input: signature(each.body, ({direction}) => direction !== 'out'),
        output: signature(each.body, ({direction}) => direction === 'out'),
      }])),
      properties: new Map(properties),
      signals: new Map(elements(body, 'signal').map((each) => [each.name, signature(each.body, () => true)])),
    })
  }
  return {xml, interfaces}
}

interface Element {
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
  readonly body: string
}

function elements(xml: string, tag: string): readonly Element[] {
  const pattern = new RegExp(`<${tag}\\b([^>]*?)(?:/>|>([\\s\\S]*?)</${tag}>)`, 'g')
  return [...xml.matchAll(pattern)].map(([, head = '', body = '']) => {
    const attributes = Object.fromEntries([...head.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]))
    return {name: attributes['name'] ?? '', attributes, body}
  })
}

function signature(body: string, isWanted: (argument: {readonly direction: string}) => boolean): string {
  return elements(body, 'arg')
    .filter(({attributes}) => isWanted({direction: attributes['direction'] ?? 'in'}))
    .map(({attributes}) => attributes['type'] ?? '')
    .join('')
}
