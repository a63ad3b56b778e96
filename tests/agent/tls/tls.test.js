'use strict'
// The agent over TLS, with a certificate authority of the test's own. PMD_BIN has the feature `tls`.
const test = require('node:test')
const assert = require('node:assert')
const fs = require('fs')
const https = require('https')
const os = require('os')
const path = require('path')
const { execFileSync, spawn } = require('child_process')
const WebSocket = require('ws')
const mqtt = require('mqtt')
const subject = require('../subjects/pmd')()
const { freePort, sleep } = require('../lib/backend')

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'agt-'))
const at = name => path.join(dir, name)
const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' })

function authority (name) {
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.pem`)
}

function certificate (name, ca) {
  fs.writeFileSync(at('san'), 'subjectAltName=DNS:localhost,IP:127.0.0.1')
  openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/CN=${name}`,
    '-keyout', `${name}.key`, '-out', `${name}.csr`)
  openssl('x509', '-req', '-in', `${name}.csr`, '-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-CAcreateserial',
    '-days', '2', '-extfile', 'san', '-out', `${name}.pem`)
}

test.before(() => {
  authority('ours')
  authority('theirs')
  certificate('server', 'ours')
})
test.after(() => fs.rmSync(dir, { recursive: true, force: true }))

async function until (what, is, timeout = 15000) {
  const end = Date.now() + timeout
  for (;;) {
    const found = await is()
    if (found) return found
    assert.ok(Date.now() < end, `timed out: ${what}`)
    await sleep(50)
  }
}

async function backend (t) {
  const port = await freePort()
  const seen = []
  const server = https.createServer({ key: fs.readFileSync(at('server.key')), cert: fs.readFileSync(at('server.pem')) },
    (req, res) => {
      req.resume()
      req.on('end', () => res.end(JSON.stringify({ active: true, endpoints: { web: 'x', ws: `wss://localhost:${port}/w` } })))
    })
  server.on('tlsClientError', () => {})
  const wss = new WebSocket.Server({ server })
  wss.on('connection', ws => ws.on('message', m => seen.push(JSON.parse(m))))
  await new Promise(resolve => server.listen(port, '127.0.0.1', resolve))
  t.after(() => { for (const ws of wss.clients) ws.terminate(); server.close() })
  return { root: `https://127.0.0.1:${port}`, seen }
}

async function daemon (t, env) {
  const home = fs.mkdtempSync(path.join(dir, 'home-'))
  const run = await subject.start({ home, env })
  t.after(() => run.stop())
  return run
}

const keys = { PM2_PUBLIC_KEY: 'p', PM2_SECRET_KEY: 's', PM2_MACHINE_NAME: 'edge' }

test('verify over https and status over wss, with the right authority', async t => {
  const be = await backend(t)
  await daemon(t, { ...keys, KEYMETRICS_NODE: be.root, NODE_EXTRA_CA_CERTS: at('ours.pem') })
  await until('a status', () => be.seen.find(m => m.channel === 'status'))
})

test('a wrong authority is one warning, and supervision goes on', async t => {
  const be = await backend(t)
  const run = await daemon(t, { ...keys, KEYMETRICS_NODE: be.root, NODE_EXTRA_CA_CERTS: at('theirs.pem') })
  await until('a warning', () => /UnknownIssuer|invalid peer certificate/.test(run.log()))
  await sleep(1500)
  assert.equal(be.seen.length, 0)
  assert.equal(run.log().match(/invalid peer certificate/g).length, 1)
  assert.ok(Array.isArray(await run.rpc.list()))
})

test('a fleet over mqtts, with a certificate of the host', async t => {
  const port = await freePort()
  certificate('host', 'ours')
  fs.writeFileSync(at('m.conf'), `listener ${port} 127.0.0.1\ncafile ${at('ours.pem')}\ncertfile ${at('server.pem')}\n` +
    `keyfile ${at('server.key')}\nrequire_certificate true\nallow_anonymous true\n${process.getuid() === 0 ? 'user root\n' : ''}`)
  const broker = spawn('/usr/sbin/mosquitto', ['-c', at('m.conf')], { stdio: 'ignore' })
  t.after(() => broker.kill())
  await sleep(500)
  const read = name => fs.readFileSync(at(name))
  const c = await mqtt.connectAsync(`mqtts://localhost:${port}`, { ca: read('ours.pem'), cert: read('host.pem'), key: read('host.key') })
  t.after(() => c.endAsync(true))
  const got = []
  c.on('message', topic => got.push(topic))
  await c.subscribeAsync('pmd/#')
  await daemon(t, {
    PM2_MACHINE_NAME: 'edge', AGENT_TRANSPORT_MQTT: 'true', AGENT_MQTT_ENDPOINT: `mqtts://localhost:${port}`,
    AGENT_MQTT_CA_FILE: at('ours.pem'), AGENT_MQTT_CERT_FILE: at('host.pem'), AGENT_MQTT_KEY_FILE: at('host.key')
  })
  await until('a state', () => got.includes('pmd/v1/default/edge/state'))
})
