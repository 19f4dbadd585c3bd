// Reads YAML texts, a JSON list on the standard input, and writes what each of them says.
import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map((text) => parse(text, { strict: true }))))
