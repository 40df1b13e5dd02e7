import {readFileSync} from 'node:fs'
import path from 'node:path'

/** What either side of a TLS connection shows, and whom it believes; all of them PEM. */
export interface TlsFiles {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca: Buffer
}

export interface TlsPaths {
  readonly certificate: string
  readonly key: string
  readonly ca: string
}

/** Those of this machine, which the hook of the initramfs copies as well. */
export function tlsPathsIn(directory: string): TlsPaths {
  return {
    certificate: path.join(directory, 'certificate.pem'),
    key: path.join(directory, 'key.pem'),
    ca: path.join(directory, 'ca.pem'),
  }
}

/** Throws the error of the system where one cannot be read. */
export function readTlsFiles({certificate, key, ca}: TlsPaths): TlsFiles {
  return {cert: readFileSync(certificate), key: readFileSync(key), ca: readFileSync(ca)}
}
