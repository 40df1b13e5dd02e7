import {loadDigest} from '../../service/image/digest.js'
import {encodeMergeList, MERGE_SLOTS_OFFSET, type MergeList} from '../../service/image/merge-list.js'
import {encodeSuperblock, NO_ID} from '../../service/image/superblock.js'

/** A spare device without an image, and with a list of merges. Slices are in its second MiB. */
export function makeAborted(list: MergeList): Buffer {
  const bytes = Buffer.alloc(2 ** 21)
  encodeSuperblock({
    state: 'aborted', deviceId: NO_ID, imageId: NO_ID, parentId: NO_ID, deviceBytes: 2 ** 21, imageAreaOffset: 2 ** 19, imageAreaBytes: 65536,
    cowAreaOffset: 2 ** 20, cowAreaBytes: 65536, headerOffset: 0, headerBytes: 0, headerDigest: 0n, createdUnixSeconds: 1, storedBytes: 0, streamBytes: 0,
  }, loadDigest()).copy(bytes)
  encodeMergeList(list, 1, loadDigest()).copy(bytes, MERGE_SLOTS_OFFSET)
  return bytes
}
