// Lets Node run the project's TypeScript directly (transpiled only; `npm run check` checks types).
import {register} from 'node:module'
import {pathToFileURL} from 'node:url'

process.env['TS_NODE_TRANSPILE_ONLY'] = '1'
register('ts-node/esm', pathToFileURL('./'))
