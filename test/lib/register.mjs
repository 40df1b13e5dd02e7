// Lets Node run the project's TypeScript directly, from any directory (transpiled only; `npm run check` checks types).
import {register} from 'node:module'
import {fileURLToPath} from 'node:url'

process.env['TS_NODE_TRANSPILE_ONLY'] = '1'
process.env['TS_NODE_PROJECT'] = fileURLToPath(new URL('../../tsconfig.json', import.meta.url))
register('ts-node/esm', import.meta.url)
