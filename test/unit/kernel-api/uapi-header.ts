// The interface as the kernel series defines it: its header, asked by the C compiler.
import {execFileSync, spawnSync} from 'node:child_process'
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {dirname, join} from 'node:path'
import {linesAddedBySeries, textFromSeries} from '../../lab/series.js'

export interface Member {
  readonly name: string
  readonly offset: number
  readonly bytes: number
}

export interface Struct {
  readonly bytes: number
  readonly members: readonly Member[]
}

export interface Header {
  readonly constants: ReadonlyMap<string, number>
  readonly structs: ReadonlyMap<string, Struct>
}

const HEADER = 'include/uapi/linux/snapshot_kernel.h'
/** Of linux/reboot.h, which the series does not change. */
const REBOOT_COMMANDS = ['LINUX_REBOOT_CMD_POWER_OFF', 'LINUX_REBOOT_CMD_RESTART']
const SYSCALLS = 'arch/x86/entry/syscalls/syscall_64.tbl'

/** Numbers, and where each member of each struct lies; system calls are constants named __NR_…. */
export function readUapiHeader(): Header {
  const text = textFromSeries(HEADER)
  const constants = [...text.matchAll(/^#define (\w+)[ \t]+\S/gm)].map(([, name]) => name ?? '')
  const structs = [...text.matchAll(/^struct (\w+) \{\n([^}]*)\}/gm)].map(([, name, body]) => ({
    name: name ?? '',
    members: [...(body ?? '').matchAll(/(\w+)(?:\[\w+\])?;/g)].map(([, member]) => member ?? '')
  }))
  const questions = [
    ...[...constants, ...REBOOT_COMMANDS].map(name => `printf("${name} %llu 0\\n", (unsigned long long)${name});`),
    ...structs.flatMap(({name, members}) => [
      `printf("${name} %zu 0\\n", sizeof(struct ${name}));`,
      ...members.map(member => `printf("${name}.${member} %zu %zu\\n", offsetof(struct ${name}, ${member}), ` +
        `sizeof(((struct ${name} *)0)->${member}));`)
    ])
  ]
  const answers = compileAndRun(text, questions)
  const answer = (name: string) => answers.get(name) ?? {first: Number.NaN, second: Number.NaN}
  return {
    constants: new Map([
      ...[...constants, ...REBOOT_COMMANDS].map(name => [name, answer(name).first] as const), ...systemCalls()
    ]),
    structs: new Map(structs.map(({name, members}) => [name, {
      bytes: answer(name).first,
      members: members.map(member => {
        const {first, second} = answer(`${name}.${member}`)
        return {name: member, offset: first, bytes: second}
      })
    }]))
  }
}

function systemCalls(): (readonly [string, number])[] {
  return linesAddedBySeries(SYSCALLS).map(line => line.split(/\s+/)).map(([number, , name]) => [`__NR_${name ?? ''}`, Number(number)])
}

function compileAndRun(header: string, questions: readonly string[]): Map<string, {first: number, second: number}> {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-uapi-'))
  const file = join(directory, HEADER.replace('include/uapi/', ''))
  const program = join(directory, 'ask')
  try {
    mkdirSync(dirname(file), {recursive: true})
    writeFileSync(file, header)
    const source = '#include <stddef.h>\n#include <stdio.h>\n#include <linux/reboot.h>\n#include <linux/snapshot_kernel.h>\n' +
      `int main(void)\n{\n${questions.join('\n')}\nreturn 0;\n}\n`
    const {status, stderr} = spawnSync('gcc', ['-Wall', '-Werror', '-I', directory, '-x', 'c', '-', '-o', program], {input: source})
    if (status !== 0)
      throw new Error(`Cannot compile '${HEADER}': ${String(stderr)}`)
    const lines = execFileSync(program, {encoding: 'utf8'}).trim().split('\n').map(line => line.split(' '))
    return new Map(lines.map(([name, first, second]) => [name ?? '', {first: Number(first), second: Number(second)}]))
  } finally {
    rmSync(directory, {recursive: true})
  }
}
