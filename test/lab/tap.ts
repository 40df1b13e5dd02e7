// What a kernel selftest prints: the Test Anything Protocol, as Documentation/dev-tools/ktap.rst describes it.

export interface TestPoint {
  readonly name: string
  readonly outcome: 'passed' | 'failed' | 'skipped'
  /** The point as it was printed, after what the test said before it: what a reader needs when it failed. */
  readonly text: string
}

/** The results in the order they were printed; a plan, or what no result follows, is none. */
export function testPointsOf(output: string): TestPoint[] {
  const points: TestPoint[] = []
  let said: string[] = []
  for (const line of output.split('\n')) {
    said.push(line)
    const [, not, name, directive] = /^(not )?ok \d+ (?:- )?(.*?)(?:\s*# (SKIP|XFAIL|XPASS|TODO)\b.*)?$/.exec(line) ?? []
    if (name === undefined)
      continue
    const outcome = not !== undefined ? 'failed' : directive === undefined ? 'passed' : 'skipped'
    points.push({name, outcome, text: said.join('\n')})
    said = []
  }
  return points
}
