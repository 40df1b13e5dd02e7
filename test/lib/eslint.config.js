// Lint finds floating promises and dependencies that point the wrong way; everything else is taste.
import tseslint from 'typescript-eslint'

/** Entry → stories → these → edge; these do not import one another. */
const PARTS = ['policy', 'dm', 'image', 'sinks', 'receive', 'bus', 'kernel-api']

const ALL = ['stories', ...PARTS]

/** A device that holds an image begins with the image's superblock, and a server judges what it keeps; nothing of image/ knows either. */
const MAY_KNOW = {sinks: ['image'], receive: ['image']}

/** Types may be shared: they are gone when the program runs. */
function layer(folder, forbidden) {
  return {
    files: [`service/${folder}/**/*.ts`],
    rules: {
      '@typescript-eslint/no-restricted-imports': ['error', {
        patterns: forbidden.map(name => ({
          regex: `^\\.\\./${name}/`,
          message: `service/${folder} must not know service/${name}: see "Dependencies point one way" in the style rules.`,
          allowTypeImports: true
        }))
      }]
    }
  }
}

export default tseslint.config(
  {ignores: ['dist/**', 'node_modules/**']},
  {
    files: ['service/**/*.ts', 'test/**/*.ts'],
    languageOptions: {
      parser: tseslint.parser,
      parserOptions: {project: ['./test/tsconfig.json'], tsconfigRootDir: `${import.meta.dirname ?? '.'}/../..`}
    },
    plugins: {'@typescript-eslint': tseslint.plugin},
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/ban-ts-comment': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', {considerDefaultExhaustiveForUnions: true}],
      'no-restricted-syntax': ['error', {selector: 'ExportDefaultDeclaration', message: 'Named exports only.'}]
    }
  },
  layer('edge', ALL),
  ...PARTS.map(name => {
    const known = [name, ...MAY_KNOW[name] ?? []]
    return layer(name, ['stories', ...PARTS.filter(other => !known.includes(other))])
  })
)
