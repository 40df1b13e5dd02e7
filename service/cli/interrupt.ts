/** Ctrl-C and an end that is asked for mean "do not": what was begun is rolled back, and then the command ends. */
export function onInterrupt(act: (signal: NodeJS.Signals) => void): Disposable {
  process.on('SIGINT', act)
  process.on('SIGTERM', act)
  return {
    [Symbol.dispose]() {
      process.off('SIGINT', act)
      process.off('SIGTERM', act)
    },
  }
}
