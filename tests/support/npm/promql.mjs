// Reads PromQL expressions, a JSON list on the standard input, by Prometheus' own grammar, and writes of each what it
// selects: metrics with the labels that are matched, all labels that are named, and the pieces that are no PromQL.
import { parser } from '@prometheus-io/lezer-promql'
import { readFileSync } from 'node:fs'

const expressions = JSON.parse(readFileSync(0, 'utf8'))

function read(expression) {
  const text = (node) => expression.slice(node.from, node.to)
  const told = { errors: [], selectors: [], grouping: [], functions: [] }
  parser.parse(expression).iterate({
    enter(cursor) {
      const node = cursor.node
      if (node.type.isError) told.errors.push(expression.slice(Math.max(0, node.from - 20), node.to + 20))
      else if (node.name === 'VectorSelector') {
        const name = node.getChild('Identifier')
        const selector = { name: name === null ? '' : text(name), labels: {} }
        node.cursor().iterate((inner) => {
          const matcher = inner.node
          if (!/LabelMatcher$/.test(matcher.name)) return
          const [label, value] = [matcher.firstChild, matcher.lastChild].map(text)
          selector.labels[label] = value.slice(1, -1)
        })
        told.selectors.push(selector)
      } else if (node.name === 'GroupingLabels') {
        for (let label = node.firstChild; label; label = label.nextSibling)
          if (/^[a-zA-Z_]/.test(text(label))) told.grouping.push(text(label))
      } else if (node.name === 'FunctionIdentifier') told.functions.push(text(node))
    },
  })
  return told
}

process.stdout.write(JSON.stringify(expressions.map(read)))
