// What the laboratory tells the person in front of it goes to standard error: standard output is for answers.

const started = performance.now()

/** One line, with the seconds since the start. */
export function say(text: string): void {
  process.stderr.write(`[${((performance.now() - started) / 1000).toFixed(1).padStart(6)}] ${text}\n`)
}
