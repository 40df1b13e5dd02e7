// The commands and examples of README and manual, to be run as they are printed.
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import {repository} from '../lab/places.js'

/** What stands for a device of the reader's: in the manual, and in README. */
const EXAMPLE_DEVICES = /\/dev\/disk\/by-id\/ata-SPARE_123|\/dev\/disk\/by-id\/…|\bDEVICE\b/g

/** The blocks between .EX and .EE of a page of the manual, with `device` where it has one of its own. */
export function manualExamples(page: string, device: string): readonly string[] {
  return [...readText(`units/man/${page}`).matchAll(/^\.EX\n([^]*?)^\.EE$/mg)]
    .map(([, block]) => withDevice((block ?? '').replaceAll('\\-', '-'), device))
}

/** The fenced blocks of README under a heading, with `device` where it has one of the reader's. */
export function readmeExamples(heading: string, device: string): readonly string[] {
  const section = readText('README.md').split(/^## /m).find(text => text.startsWith(`${heading}\n`)) ?? ''
  return [...section.matchAll(/^```\n([^]*?)^```$/mg)].map(([, block]) => withDevice(block ?? '', device))
}

/** The commands in such blocks: each begins a line, and two spaces end it. Files of settings have none. */
export function commandsIn(blocks: readonly string[]): readonly string[] {
  return blocks.flatMap(block => block.trim().split('\n'))
    .filter(line => /^[a-z/.]+ |^reboot/.test(line))
    .map(line => line.split(/ {2,}/)[0] ?? '')
}

/** README's first command under a heading that begins so. */
export function readmeCommand(heading: string, beginning: string, device = ''): string {
  const command = commandsIn(readmeExamples(heading, device)).find(line => `${line} `.startsWith(`${beginning} `))
  if (command === undefined)
    throw new Error(`README has no command '${beginning}' under '${heading}'`)
  return command
}

function withDevice(text: string, device: string): string {
  return text.replace(EXAMPLE_DEVICES, device)
}

function readText(file: string): string {
  return readFileSync(join(repository(), file), 'utf8')
}
