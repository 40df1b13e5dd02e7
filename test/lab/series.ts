// What the kernel series brings, read from its patches: no kernel tree is needed.
import {spawnSync} from 'node:child_process'
import {mkdtempSync, readFileSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {LaboratoryError} from './errors.js'
import {repository} from './places.js'

interface Section {
  readonly path: string
  readonly diff: string
}

/** The files the series creates whose names match. */
export function filesOfSeries(pattern: RegExp): string[] {
  const created = sections().filter(section => section.diff.includes('\n--- /dev/null\n')).map(section => section.path)
  return created.filter(path => pattern.test(path)).sort()
}

/** The text that a file created by the series has after the last patch; patch(1) puts it together. */
export function textFromSeries(path: string): string {
  const diffs = sections().filter(section => section.path === path).map(section => section.diff)
  if (diffs[0]?.includes('\n--- /dev/null\n') !== true)
    throw new LaboratoryError(`Cannot read '${path}' from kernel/patches: the series does not create it`)
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-series-'))
  try {
    for (const input of diffs) {
      const {status, stdout, error} = spawnSync('patch', ['-p1', '-f', '-s', '-F0'], {cwd: directory, input})
      if (status !== 0)
        throw new LaboratoryError(`Cannot apply kernel/patches to '${path}': ${String(error ?? stdout)}`)
    }
    return readFileSync(join(directory, path), 'utf8')
  } finally {
    rmSync(directory, {recursive: true})
  }
}

/** The lines that the series adds to a file of the kernel. */
export function linesAddedBySeries(path: string): string[] {
  const lines = sections().filter(section => section.path === path).flatMap(section => section.diff.split('\n'))
  return lines.filter(line => line.startsWith('+') && !line.startsWith('+++ ')).map(line => line.slice(1))
}

/** Every file of every patch, in the order of the series. */
function sections(): Section[] {
  const kernel = join(repository(), 'kernel')
  const names = readFileSync(join(kernel, 'series'), 'utf8').split('\n').filter(line => /^[^#\s]/.test(line))
  return names.flatMap(name => sectionsOf(readFileSync(join(kernel, 'patches', name.trim()), 'utf8')))
}

function sectionsOf(patch: string): Section[] {
  return patch.split(/^(?=diff --git )/m).slice(1).map(diff => {
    const [, path] = /^diff --git a\/\S+ b\/(\S+)/.exec(diff) ?? []
    return {path: path ?? '', diff}
  })
}
