import test from 'ava'
import {millisecondsIn} from '../../bench/phases.js'

const TRACE = `# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
     permafrostd-412     [000] .....    51.000000: suspend_resume: snapshot_copy[0] begin
     permafrostd-412     [000] .....    51.100000: suspend_resume: CPU_OFF[2] begin
     permafrostd-412     [000] .....    51.130000: suspend_resume: CPU_OFF[2] end
     permafrostd-412     [000] .....    51.130000: suspend_resume: CPU_OFF[1] begin
     permafrostd-412     [000] .....    51.140000: suspend_resume: CPU_OFF[1] end
     permafrostd-412     [000] d....    51.200000: suspend_resume: CPU_ON[1] begin
     permafrostd-412     [000] .....    51.205000: suspend_resume: CPU_ON[1] end
     permafrostd-412     [000] .....    51.300000: suspend_resume: snapshot_copy[0] end
`

test('adds up the phases that are asked for', t => {
  t.is(Math.round(millisecondsIn(TRACE, ['CPU_OFF'])), 40)
  t.is(Math.round(millisecondsIn(TRACE, ['CPU_OFF', 'CPU_ON'])), 45)
  t.is(Math.round(millisecondsIn(TRACE, ['snapshot_copy'])), 300)
  t.is(millisecondsIn(TRACE, ['snapshot_hold']), 0)
})

test('says so when an end or a beginning is missing', t => {
  const lines = TRACE.split('\n')
  t.throws(() => millisecondsIn(lines.slice(0, -2).join('\n'), ['snapshot_copy']), {message: /both ends of snapshot_copy\[0\]/})
  t.throws(() => millisecondsIn(lines.slice(4).join('\n'), ['CPU_OFF']), {message: /both ends of CPU_OFF\[2\]/})
})
