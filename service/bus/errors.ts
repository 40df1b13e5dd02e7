import {causeText, FailedError, PermafrostError, RefusedError} from '../errors.js'
import {ERROR_PREFIX} from './names.js'

/** What an error is called and says on the bus; never a stack trace. */
export function toBusError(error: unknown): {readonly name: string, readonly text: string} {
  if (error instanceof PermafrostError) return {name: error.busName, text: error.message}
  return {name: `${ERROR_PREFIX}Failed`, text: `Cannot answer: ${causeText(error)}`}
}

/** An error of the daemon, on the client's side: its family and name are kept, its fields are not. */
export class RemoteRefusedError extends RefusedError {
  constructor(override readonly busName: string, text: string) {
    super(text)
  }
}

export class RemoteFailedError extends FailedError {
  constructor(override readonly busName: string, text: string) {
    super(text)
  }
}

/** The names that mean that nothing was changed. */
export const REFUSALS: ReadonlySet<string> = new Set([
  ...[
    'Refused', 'NotRoot', 'KernelTooOld', 'NoSpareDevice', 'SpareNotSetUp', 'SpareTooSmall', 'SpareInUse',
    'UnmappedFileSystem', 'Configuration', 'Policy', 'UntrustedFile', 'UnreadableFile', 'TooLittleMemory', 'Target', 'CheckFailed', 'Busy',
    'NothingToAbort', 'DaemonMissing', 'NoSuchProcess', 'Usage',
  ].map((name) => `${ERROR_PREFIX}${name}`),
  ...['AccessDenied', 'InteractiveAuthorizationRequired', 'InvalidArgs', 'UnknownMethod', 'UnknownObject', 'UnknownInterface']
    .map((name) => `org.freedesktop.DBus.Error.${name}`),
])

export function fromBusError(name: string, text: string): PermafrostError {
  return REFUSALS.has(name) ? new RemoteRefusedError(name, text) : new RemoteFailedError(name, text)
}
