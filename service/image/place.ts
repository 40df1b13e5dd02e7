/** A device under a file system, as it lies on the medium. */
export interface BlockSource {
  read(offset: number, length: number): Promise<Buffer>
}

/** Bytes of a device of which a change is to be noticed. */
export interface Place {
  readonly offset: number
  readonly bytes: number
}
