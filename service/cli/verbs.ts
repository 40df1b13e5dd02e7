import {type Verb} from './verb.js'

/** Every verb. What one does is loaded when it is called: most need little, and starting takes time. */
export const VERBS: readonly Verb[] = [
  {
    name: 'hibernate',
    parameters: '',
    summary: 'Save the machine and switch it off; returns after the resume',
    example: "permafrost hibernate        # 'systemctl hibernate' also asks those who object",
    flags: {},
    words: [0, 0],
    load: async () => (await import('./hibernate.js')).hibernate,
  },
  {
    name: 'check',
    parameters: '',
    summary: 'Say whether the machine could hibernate, and if not, what to do',
    example: 'permafrost check || echo "not yet"',
    flags: {},
    words: [0, 0],
    load: async () => (await import('./questions.js')).check,
  },
  {
    name: 'status',
    parameters: '[--watch|--last]',
    summary: 'Show what the daemon is doing and how the last attempt ended',
    example: 'permafrost status --watch',
    flags: {
      watch: 'go on showing changes until interrupted',
      last: 'show how the last attempt ended and what it measured, from the journal',
    },
    words: [0, 0],
    load: async () => (await import('./status.js')).showStatus,
  },
  {
    name: 'needed',
    parameters: '[--explain PID]',
    summary: 'List the processes that would keep running, and the line that says so',
    example: 'permafrost needed --explain 1',
    flags: {explain: 'say of one process why it would keep running, or why not'},
    words: [0, 1],
    load: async () => (await import('./questions.js')).listNeeded,
  },
  {
    name: 'abort',
    parameters: '',
    summary: 'Stop a hibernation that is under way; the machine goes on as it is',
    example: 'permafrost abort',
    flags: {},
    words: [0, 0],
    load: async () => (await import('./questions.js')).abort,
  },
  {
    name: 'setup',
    parameters: 'DEVICE [--yes] [--force]',
    summary: 'Claim a block device for the image; what is on it is lost',
    example: 'permafrost setup /dev/disk/by-id/ata-SPARE_123',
    flags: {
      yes: 'do not ask',
      force: 'even when there is a signature of a file system, swap area or volume on it',
    },
    words: [1, 1],
    load: async () => (await import('./setup.js')).setUp,
  },
  {
    name: 'image',
    parameters: 'show|verify|discard [DEVICE|FILE|-], copy SOURCE TARGET',
    summary: 'Look at an image, check every bit of it, forget it, or carry it elsewhere',
    example: 'permafrost image verify; permafrost image copy /dev/spare - | ssh host permafrost image copy - /dev/other',
    flags: {},
    words: [1, 3],
    load: async () => (await import('./image.js')).runImage,
  },
]
