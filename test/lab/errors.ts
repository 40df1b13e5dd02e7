// Why a verb of the laboratory stopped; main.ts maps each class to its exit status.

/** The command line makes no sense: exit status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** The machine did otherwise than it was asked to: exit status 1. */
export class MachineError extends Error {
  override readonly name = 'MachineError'
}

/** The machine is on and does not answer, long after it should have. */
export class SilenceError extends MachineError {}

/** The laboratory itself cannot work (a tool is missing, a download fails): exit status 3. */
export class LaboratoryError extends Error {
  override readonly name = 'LaboratoryError'
}

/** The text of whatever was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/** Whether a system call failed with this code, such as 'ENOENT'. */
export function hasCode(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === code
}
