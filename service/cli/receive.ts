import {once} from 'node:events'
import {statSync} from 'node:fs'
import path from 'node:path'
import {readTlsFiles, type TlsFiles} from '../edge/tls-files.js'
import {openServiceManager} from '../edge/notify.js'
import {printable} from '../edge/printable.js'
import {causeText, StoreError, UsageError} from '../errors.js'
import {loadDigest} from '../image/digest.js'
import {IMAGE_SUFFIX, ImageStore} from '../receive/image-store.js'
import {describeImageFile, type ListedImage} from '../receive/listing.js'
import {Receiver} from '../receive/receiver.js'
import {type Arguments, EXIT_DONE, type Surroundings, toJson, wordAt} from './verb.js'

/** A server for the images of other machines, until it is told to end; or, with a word, a look at what it has kept. */
export async function receive(given: Arguments, surroundings: Surroundings): Promise<number> {
  if (given.words.length > 0) return await list(given, surroundings)
  const {host, port} = parseListen(given.values['listen'])
  const directory = given.values['directory']
  if (directory === undefined) throw new UsageError("Cannot receive images: say where they are kept, '--directory DIRECTORY'")
  if (statSync(directory, {throwIfNoEntry: false})?.isDirectory() !== true) {
    throw new StoreError('keep images in', directory, {cause: new Error('there is no such directory')})
  }
  const digest = loadDigest()
  const stopped = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
  await using receiver = await Receiver.start({
    host, port, digest, tls: readTls(given.values), store: new ImageStore(directory, digest),
    say: (line) => surroundings.print(given.flags.has('json') ? toJson({line}) : line),
  })
  const {address, port: actualPort} = receiver.address
  surroundings.print(given.flags.has('json') ? toJson({address, port: actualPort}) : `listening on ${address}:${actualPort}`)
  openServiceManager().ready('Waiting for images')
  await stopped
  return EXIT_DONE
}

/** Whether each may be resumed is for the spare device of its machine to say; here it is whole or not. */
async function list(given: Arguments, surroundings: Surroundings): Promise<number> {
  if (wordAt(given, 0, 'list') !== 'list' || given.words.length !== 2) {
    throw new UsageError("Cannot receive images: the form is 'permafrost receive list DIRECTORY'")
  }
  const directory = wordAt(given, 1, 'a DIRECTORY')
  const digest = loadDigest()
  for (const name of await new ImageStore(directory, digest).names()) {
    const image = await describeImageFile(path.join(directory, `${name}${IMAGE_SUFFIX}`), digest)
    surroundings.print(given.flags.has('json') ? toJson({name, ...image}) : describe(name, image))
  }
  return EXIT_DONE
}

function describe(name: string, image: ListedImage): string {
  if (!image.isWhole) return `${name.padEnd(20)} ${image.fault}`
  const {created, storedBytes, hostname, kernel, imageId} = image
  return `${name.padEnd(20)} ${created} ${`${Math.ceil(storedBytes / 2 ** 20)} MiB`.padStart(10)} ${printable(hostname)} ${printable(kernel)} ${imageId}`
}

function parseListen(text: string | undefined): {readonly host: string; readonly port: number} {
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(text ?? '') ?? []
  if (host === undefined || port === undefined || Number(port) > 65_535) {
    throw new UsageError("Cannot receive images: say where to listen, '--listen ADDRESS:PORT'")
  }
  return {host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port)}
}

function readTls({certificate, key, ca}: Arguments['values']): TlsFiles | null {
  if (certificate === undefined && key === undefined && ca === undefined) return null
  if (certificate === undefined || key === undefined || ca === undefined) {
    throw new UsageError("Cannot receive images: TLS needs all of '--certificate', '--key' and '--ca'")
  }
  try {
    return readTlsFiles({certificate, key, ca})
  } catch (cause) {
    throw new UsageError(`Cannot read the certificate, its key or the authority: ${causeText(cause)}`, {cause})
  }
}
