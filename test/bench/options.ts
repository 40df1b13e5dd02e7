// What the commands of this directory understand.
import {UsageError} from '../lab/errors.js'

/** A whole number from 1 on; throws UsageError for anything else. */
export function numberFrom(text: string, option: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1)
    throw new UsageError(`Cannot take ${option} '${text}': expected a number from 1 on`)
  return number
}
