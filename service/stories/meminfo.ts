/** Fields of proc(5), /proc/meminfo, by name, in bytes; 0 where this kernel has no such field. */
export function readMeminfo(meminfo: string): (field: string) => number {
  const fields = new Map([...meminfo.matchAll(/^(\S+):\s+(\d+) kB$/gm)].map(([, name = '', kib]) => [name, Number(kib) * 1024]))
  return (field) => fields.get(field) ?? 0
}
