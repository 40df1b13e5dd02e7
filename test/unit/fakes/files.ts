import type {DeviceNumber} from '../../../service/edge/device-number.js'
import type {Files} from '../../../service/edge/files.js'

export interface FakeTree {
  readonly texts?: Readonly<Record<string, string>>
  readonly blockDevices?: Readonly<Record<string, DeviceNumber>>
  /** Paths that lead nowhere; all others lead to themselves. */
  readonly missing?: readonly string[]
  readonly links?: Readonly<Record<string, string>>
}

/** Files and block device nodes, in memory; folders are what paths have in common. */
export function fakeFiles({texts = {}, blockDevices = {}, missing = [], links = {}}: FakeTree): Files {
  const paths = [...Object.keys(texts), ...Object.keys(blockDevices), ...Object.keys(links)]
  return {
    readText: (path) => texts[path] ?? null,
    list: (path) => [...new Set(paths.filter((each) => each.startsWith(`${path}/`)).map((each) => each.slice(path.length + 1).split('/')[0] ?? ''))],
    blockDevice: (path) => blockDevices[path] ?? null,
    realPath: (path) => (missing.includes(path) ? null : path),
    link: (path) => links[path] ?? null,
  }
}
