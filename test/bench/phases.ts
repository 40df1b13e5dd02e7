// How long the kernel was in a phase of a snapshot, by its tracepoint power:suspend_resume.

/** A line of tracefs(5)'s file trace; Documentation/trace/ftrace.rst and include/trace/events/power.h in the kernel. */
const EVENT = /\s(\d+\.\d+): suspend_resume: (\w+)\[(\d+)\] (begin|end)$/

/**
 * Milliseconds between the begin and the end of all phases with these names, whatever their number (of a CPU).
 * Throws an Error where a phase ended that had not begun, or did not end: then something is missing in the trace.
 */
export function millisecondsIn(trace: string, names: readonly string[]): number {
  const begun = new Map<string, number>()
  let sum = 0
  for (const line of trace.split('\n')) {
    const [, seconds, name = '', number = '', edge] = EVENT.exec(line) ?? []
    if (!names.includes(name))
      continue
    const phase = `${name}[${number}]`
    const since = begun.get(phase)
    if ((edge === 'end') !== (since !== undefined))
      throw new Error(`The trace does not tell of both ends of ${phase}`)
    if (since === undefined) {
      begun.set(phase, Number(seconds))
    } else {
      sum += Number(seconds) - since
      begun.delete(phase)
    }
  }
  for (const phase of begun.keys())
    throw new Error(`The trace does not tell of both ends of ${phase}`)
  return sum * 1000
}
