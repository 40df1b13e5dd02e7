export interface EitherSignal extends Disposable {
  readonly signal: AbortSignal
}

/**
 * A signal that is aborted as soon as one of these is, with its reason, until it is disposed of. AbortSignal.any() may forget
 * one of them that nobody else holds, such as AbortSignal.timeout(), when garbage is collected: Node's issue 57736.
 */
export function eitherOf(signals: readonly AbortSignal[]): EitherSignal {
  const controller = new AbortController()
  const removals = signals.map((signal) => {
    const pass = (): void => controller.abort(signal.reason)
    signal.addEventListener('abort', pass)
    if (signal.aborted) pass()
    return () => signal.removeEventListener('abort', pass)
  })
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const remove of removals) remove()
    },
  }
}
