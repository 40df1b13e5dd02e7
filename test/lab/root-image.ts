// Writes into the root image of a machine that is off, without mounting it.
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {run} from './tool.js'

export interface RootChange {
  readonly directories: readonly string[]
  /** Path in the image → its text; replaced when it is there. */
  readonly files: Readonly<Record<string, string>>
  /** Path in the image → what it points to. */
  readonly links: Readonly<Record<string, string>>
}

export async function changeRoot(root: string, change: RootChange): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-lab-'))
  try {
    const files = Object.entries(change.files).flatMap(([path, text], index) => {
      const source = join(directory, `file${index}`)
      writeFileSync(source, text)
      return [`rm ${path}`, `write ${source} ${path}`]
    })
    const commands = join(directory, 'commands')
    writeFileSync(commands, [
      ...change.directories.map(path => `mkdir ${path}`),
      ...files,
      ...Object.entries(change.links).map(([path, target]) => `symlink ${path} ${target}`),
      ''
    ].join('\n'))
    await run('debugfs', ['-w', '-f', commands, root])
  } finally {
    rmSync(directory, {recursive: true})
  }
}
