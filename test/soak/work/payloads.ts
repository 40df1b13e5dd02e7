// Programs of the laboratory that know themselves whether anything is wrong with them.
import type {Machine} from '../../lab/machine.js'
import {
  appendedLines, askPayload, checkMemory, diaryComplaints, holdMemory, memoryComplaints, startPayload,
  startTellingPayload
} from '../../lab/workload.js'
import {complaintsAboutUnit, stateOfUnit, wordsOfUnit, type Work} from './work.js'

const HELD_MIB = 96
const DIARY = '/var/lib/diary'
const SLEEPERS = 1000

/** Every byte of it is looked at. */
export const HELD_MEMORY: Work = {
  title: 'memory',
  packages: [],
  units: ['hold'],
  start: async machine => { await holdMemory(machine, 'hold', HELD_MIB) },
  watch: async machine => {
    const before = await checkMemory(machine, 'hold')
    return async resumed => await memoryComplaints(resumed, 'hold', before)
  }
}

export const FSYNCED_DIARY: Work = {
  title: 'diary',
  packages: [],
  units: ['diary'],
  start: async machine => { await startPayload(machine, 'diary', 'append', DIARY) },
  watch: async machine => {
    const before = await appendedLines(machine, DIARY)
    return async resumed => {
      const complaints = await diaryComplaints(resumed, DIARY)
      const after = await appendedLines(resumed, DIARY)
      const lost = before.filter((line, index) => after[index] !== line)
      return [
        ...complaints,
        ...(lost.length === 0 ? [] : [`${lost.length} lines are others, such as '${lost[0] ?? ''}'`])
      ]
    }
  }
}

export const CONVERSATION: Work = {
  title: 'TCP connection',
  packages: [],
  units: ['talk'],
  start: async machine => { await startTellingPayload(machine, 'talk', 'talk') },
  watch: async machine => {
    const before = await askPayload(machine, 'talk')
    const unit = await stateOfUnit(machine, 'talk')
    return async resumed => {
      const complaints = complaintsAboutUnit('talk', unit, await stateOfUnit(resumed, 'talk'))
      if (complaints.length > 0)
        return [...complaints, await wordsOfUnit(resumed, 'talk')]
      const after = await askPayload(resumed, 'talk')
      return (after['received'] ?? 0) > (before['received'] ?? 0) ? []
        : [`${before['received'] ?? '?'} messages were received before and ${after['received'] ?? '?'} after`]
    }
  }
}

export const SLEEPING_PROCESSES: Work = {
  title: `${SLEEPERS} sleeping processes`,
  packages: [],
  units: ['sleepers'],
  start: async machine => { await startTellingPayload(machine, 'sleepers', 'sleepers', String(SLEEPERS)) },
  watch: async () => await Promise.resolve(async resumed => {
    const {answered, wrong} = await askPayload(resumed, 'sleepers')
    return answered === SLEEPERS && wrong === 0 ? [] : [`${answered ?? '?'} have answered, ${wrong ?? '?'} wrong`]
  })
}

export const PAYLOADS: readonly Work[] = [HELD_MEMORY, FSYNCED_DIARY, CONVERSATION, SLEEPING_PROCESSES]

