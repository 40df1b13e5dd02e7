import {DIRECTORIES, readDropIns} from '../configuration/drop-ins.js'
import {parsePolicyFile} from './parse.js'
import {type Policy} from './policy.js'

/** All policy files in force, in name order; throws PolicyError when one of them is wrong. */
export function mergePolicyDirectories(directories: readonly string[] = DIRECTORIES): Policy {
  return {rules: readDropIns('policy.d', directories).flatMap(({file, text}) => parsePolicyFile(text, file))}
}
