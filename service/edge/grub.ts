import type {Files} from './files.js'

/** Where Debian's grub-mkconfig(8) and grub-editenv(1) have them. */
const CONFIGURATION = '/boot/grub/grub.cfg'
const ENVIRONMENT = '/boot/grub/grubenv'

/**
 * The kernel file that GRUB starts when nobody chooses at the next boot. Null when it cannot be told: another boot loader, or a
 * default that is not the first entry, as GRUB_DEFAULT= and grub-reboot(8) make it.
 */
export function kernelOfNextBoot(files: Files): string | null {
  const configuration = files.readText(CONFIGURATION)
  if (configuration === null) return null
  if (/^next_entry=./m.test(files.readText(ENVIRONMENT) ?? '')) return null
  // With a saved default it says set default="${saved_entry}"; the other one, for next_entry, is judged above.
  const defaults = [...configuration.matchAll(/^\s*set default="(.*)"$/gm)].map(([, value]) => value)
  if (defaults.some((value) => value !== '0' && value !== '${next_entry}')) return null
  return /^\s*linux(?:efi)?\s+(\S+)/m.exec(configuration)?.[1] ?? null
}
