/** What the kernel writes as three octal digits in mountinfo and swaps: space, tab, line feed and backslash, mangle_path() in fs/seq_file.c. */
export function decodeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
