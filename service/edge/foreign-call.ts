import koffi from 'koffi'

/** A function of a C library, as koffi declares it. */
export type ForeignFunction = ReturnType<ReturnType<typeof koffi.load>['func']>

export interface Returned<Value> {
  readonly value: Value
  /** errno(3) as the function left it; means something only where the function says so. */
  readonly errno: number
}

/**
 * Calls a C function on a thread of libuv's pool while the caller goes on. Its arguments, buffers above all, stay in
 * memory until it has returned, whoever else holds them: koffi (AsyncCall in its call.cc) holds the callback alone, so
 * the callback holds them. Rejects with koffi's TypeError when an argument is not what the function takes.
 */
export function callOnThread<Value>(called: ForeignFunction, ...args: readonly unknown[]): Promise<Returned<Value>> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, value: Value): void => {
      if (error) reject(error)
      else resolve({value, errno: koffi.errno()})
    }
    called.async(...args, Object.assign(done, {args}))
  })
}
