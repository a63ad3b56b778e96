// Written by pmd, which has Node load it first. It says over the channel which Node this is, and
// what the program dies of, and has a worker of a cluster that another replaces part from clients
// that keep their connections; it changes nothing else. "pmx": false leaves it out.
'use strict';

const { isMainThread } = require('worker_threads');

// What the program starts is not to load it.
const at = process.execArgv.indexOf(__filename);
if (at > 0) process.execArgv.splice(at - 1, 2);
delete require.cache[__filename];

if (isMainThread && process.send) {
  const send = process.send;
  // Without a callback a channel that is closed by now would be an error of the program's own.
  const say = message => { if (process.connected) send.call(process, message, () => {}); };
  const text = value => {
    try { return String(value).slice(0, 16384); } catch { return 'an error that has no text'; }
  };

  // As PM2 names what it starts.
  if (process.env.pm_exec_path) {
    process.title = process.env.PROCESS_TITLE || `node ${process.env.pm_exec_path}`;
  }
  say({ node_version: process.versions.node });

  // Only looks on: what becomes of the error is decided as if nobody did.
  process.on('uncaughtExceptionMonitor', error => {
    try {
      const is = typeof error === 'object' && error !== null && 'message' in error;
      const message = text(is ? error.message : error);
      const data = { message, stack: message };
      if (is && typeof error.stack === 'string') data.stack = text(error.stack);
      if (is && typeof error.name === 'string') data.name = text(error.name);
      say({ type: 'process:exception', data });
    } catch {
      // Nothing here may be worse than the error itself.
    }
  });

  // Closing an idle connection may meet a request that is on its way. So the next answer on each
  // says that it is the last one, and only those are closed that stay idle for a while.
  const part = () => {
    const requests = require('diagnostics_channel').channel('http.server.request.start');
    requests.subscribe(({ response }) => { response.shouldKeepAlive = false; });
    for (const { prototype } of [require('http').Server, require('https').Server]) {
      const close = prototype.closeIdleConnections;
      prototype.closeIdleConnections = function () {
        setInterval(() => close.call(this), 500).unref();
      };
    }
  };
  process.prependListener('internalMessage', message => {
    if (message.cmd !== 'NODE_CLUSTER' || message.act !== 'disconnect') return;
    try { part(); } catch { /* A Node that has none of this closes them at once. */ }
  });
}
