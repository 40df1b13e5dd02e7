import {setFlagsFromString} from 'node:v8'
import {runInNewContext} from 'node:vm'

/** All that nobody holds is gone when this returns, but for what the job under way has looked at through a WeakRef. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
}
