import {processSurroundings, runCommandLine} from './cli/command-line.js'

// Who read our output has enough of it: not an error worth a stack trace.
process.stdout.on('error', () => process.exit())
process.exitCode = await runCommandLine(process.argv.slice(2), processSurroundings())
