import type {DeviceNumber} from '../edge/device-number.js'
import type {MergeList} from '../image/merge-list.js'
import type {Lines} from '../image/records.js'
import type {ImageState} from '../image/superblock.js'

/**
 * Where an image goes. What the states mean to the next boot is in image/FORMAT.md; whoever
 * implements this sees to it that `complete` is the only way to a valid image, and that
 * everything a valid image needs was flushed before it became valid.
 */
export interface ImageSink {
  /** For messages. */
  readonly name: string
  /** Finds out whether an image could go there, and changes nothing. Throws RefusedError. */
  inspect(): Promise<SinkSummary>
  /** What is said there of the last image. Throws where there is no device that is ours. */
  readState(): Promise<ImageState>
  /** What was measured while the last image was saved, as its header says; throws when it cannot be read. */
  readFigures(): Promise<Readonly<Record<string, string>>>
  /** From here on there is no valid image: the state is "writing", and flushed. */
  begin(options?: BeginOptions): Promise<ImageSession>
  /** Says of the image that was there what has become of it. Flushed when it returns. */
  mark(state: 'resumed' | 'aborted'): Promise<void>
}

export interface BeginOptions {
  /** That of an image that is copied; a new one has its own. */
  readonly imageId?: string
  /** Nobody who has stopped taking the image is waited for after this. */
  readonly signal?: AbortSignal
}

export interface SinkSummary {
  readonly state: ImageState
  readonly imageId: string
  /** Room for one image, its header included. */
  readonly imageAreaBytes: number
}

/** The writing of one image. */
export interface ImageSession extends AsyncDisposable {
  /** Of an image that goes elsewhere, what the next boot has to know to fetch it by itself: WAY_BACK of FORMAT.md. */
  readonly wayBack?: Lines | null
  readonly freeBytes: number
  /** The place of the next piece, which is `bytes` long; throws SinkError when there is no room. */
  reserve(bytes: number): number
  /** `bytes` is aligned memory of an aligned length. */
  write(bytes: Buffer, offset: number): Promise<void>
  /** Writes the header section, flushes, makes the image valid, and flushes again. */
  complete(image: CompletedImage): Promise<void>
}

export interface CompletedImage {
  readonly header: Buffer
  readonly storedBytes: number
  readonly streamBytes: number
  /** Of an image that was made earlier and is copied; without it the image is made now. */
  readonly createdUnixSeconds?: number
}

/** What the next boot has to merge back should the power go before this one has. */
export interface MergeNotes {
  /** Null when there is nothing to merge. */
  readMerges(): Promise<MergeList | null>
  /** Flushed when it returns. */
  recordMerges(list: MergeList): Promise<void>
  /** Flushed when it returns. Only for when everything that was merged is on its base. */
  clearMerges(): Promise<void>
}

/** Where file systems write while the image is saved: never on a file system. */
export interface CowSpace {
  area(): Promise<CowArea>
}

export interface CowArea {
  readonly device: DeviceNumber
  readonly offsetBytes: number
  readonly bytes: number
}
