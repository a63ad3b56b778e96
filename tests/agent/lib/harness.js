'use strict'
const fs = require('fs')
const os = require('os')
const path = require('path')
const { Backend } = require('./backend')

const subject = require('../subjects/pmd')()

exports.subject = subject
exports.fixture = f => path.resolve(__dirname, '..', 'fixtures', f)

// One back end plus one daemon with its agent, in a scratch home.
exports.setup = async function ({ transports = ['websocket'], env = {}, backend = {}, machine = 'edge-01', before, config } = {}) {
  const be = await new Backend(backend).start()
  if (before) before(be)
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'agc-'))
  if (config) fs.writeFileSync(path.join(home, 'config.json'), JSON.stringify(typeof config === 'function' ? config(be) : config))
  const run = await subject.start({
    home,
    env: Object.assign({
      KEYMETRICS_NODE: be.root,
      PM2_PUBLIC_KEY: be.publicKey,
      PM2_SECRET_KEY: be.secretKey,
      PM2_MACHINE_NAME: machine,
      AGENT_TRANSPORT_WEBSOCKET: String(transports.includes('websocket')),
      AGENT_TRANSPORT_AXON: String(transports.includes('axon'))
    }, typeof env === 'function' ? env(be) : env)
  })
  return {
    be,
    home,
    run,
    rpc: run.rpc,
    async teardown () {
      await run.stop()
      await be.stop()
      if (process.env.KEEP_HOME) console.log('kept', home)
      else fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 })
    }
  }
}
