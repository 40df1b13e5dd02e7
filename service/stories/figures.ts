import type {SnapshotFigures} from '../kernel-api/abi.js'

/** What a hibernation measured, under the names the image format gives. */
export type Figures = Readonly<Record<string, number | bigint>>

export function kernelFigures(figures: SnapshotFigures): Figures {
  return {
    pause_ns: figures.pauseNs,
    suspend_dm_ns: figures.suspendDmNs,
    protect_ns: figures.protectNs,
    copy_ns: figures.copyNs,
    pages_copied: figures.pagesCopied,
    pages_in_place: figures.pagesInPlace,
    pages_zero: figures.pagesZero,
    image_bytes: figures.imageBytes,
  }
}

export function printFigures(figures: Figures): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, String(value)]))
}

/** What is no number is left out: figures of other versions may be anything. */
export function parseFigures(lines: Readonly<Record<string, string>>): Figures {
  const numbers = Object.entries(lines).filter(([, text]) => /^\d{1,20}$/.test(text))
  return Object.fromEntries(
    numbers.map(([name, text]) => [name, Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text)]),
  )
}

/** One line for the journal. */
export function describeFigures(figures: Figures): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')
}
