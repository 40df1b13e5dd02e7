import test from 'ava'
import {parseIntrospection, readIntrospection} from '../../../service/bus/introspection.js'

test('reads methods, properties and signals with their signatures, and no comments', (t) => {
  const {interfaces} = parseIntrospection(`<node>
    <interface name="a.B"><!-- <method name="No"/> -->
      <method name="Empty"/>
      <method name="Both"><arg type="a{sv}" name="x"/><arg type="u" direction="in"/><arg direction="out" type="(ss)"/></method>
      <property name="P" type="t" access="read"/><signal name="S"><arg type="s"/><arg type="d"/></signal>
    </interface><interface name="c.D"></interface></node>`)
  t.deepEqual(interfaces.get('a.B'), {
    methods: new Map([['Empty', {input: '', output: ''}], ['Both', {input: 'a{sv}u', output: '(ss)'}]]),
    properties: new Map([['P', 't']]),
    signals: new Map([['S', 'sd']]),
  })
  t.deepEqual(interfaces.get('c.D')?.methods.size, 0)
})

test('finds the interface of the service in the file beside it', (t) => {
  const manager = readIntrospection().interfaces.get('org.permafrost1.Manager')
  t.deepEqual([...(manager?.methods.keys() ?? [])], ['Hibernate', 'Snapshot', 'SelfTest', 'CanHibernate', 'Check', 'ListNeeded', 'ExplainNeeded', 'Abort'])
})
