'use strict';
// A small ipevents peer written from the wire description of ipevents 0.1.3.
// It can be a leaf (child over process.send, or client over TCP / a Unix socket)
// and at the same time the parent of further processes (host()).
const net = require('net');
const lines = require('./lines');

class Peer {
  constructor(pid) { this.pid = pid || String(process.pid); this.parentPid = null; this.up = null; this.kids = new Map(); this.handlers = new Map(); this.seen = []; }

  // fn(message, ...args)
  listen(event, fn) {
    if (!this.handlers.has(event)) this.handlers.set(event, []);
    this.handlers.get(event).push(fn);
    this.announce(event);
    return this;
  }
  announce(event) { this.sendToParents('newListener', event); }

  // ---- transports -------------------------------------------------------
  overIpc() {
    this.up = m => process.send(m);
    process.on('message', m => this.receive(m, null));
    this.hello();
    return this;
  }
  overSocket(where) {               // {port,host} or {path}
    return new Promise((res, rej) => {
      const s = this.sock = net.connect(where);
      s.once('error', rej);
      s.once('connect', () => {
        s.removeListener('error', rej); s.on('error', () => {});
        // Over TCP a client is known by its own address; over a Unix socket it names itself.
        if (where.port) this.pid = s.localAddress + ':' + s.localPort;
        this.up = m => s.write(JSON.stringify(m) + '\n');
        s.on('data', lines(1 << 24, l => this.receive(JSON.parse(l), null), () => {}));
        s.on('close', () => { this.up = null; const p = this.parentPid; this.parentPid = null; this.fire({ from: this.pid, pids: [this.pid], event: 'offline', args: [p] }); });
        this.hello();
        res(this);
      });
    });
  }
  hello() { for (const e of this.handlers.keys()) this.announce(e); this.sendToParents('online'); }
  close() { if (this.sock) this.sock.destroy(); }

  // Become the parent of a forked process.
  host(cp) {
    const kid = { pid: String(cp.pid), listens: new Set(), send: m => { try { cp.send(m, () => {}); } catch (e) {} } };
    this.kids.set(kid.pid, kid);
    cp.on('message', m => { if (m && m.pids) this.receive(m, kid); });
    cp.on('exit', () => { this.kids.delete(kid.pid); this.fire(this.msg('toParents', 'offline', [kid.pid])); this.sendToParents('offline', kid.pid); });
    return kid;
  }

  // ---- sending ----------------------------------------------------------
  msg(type, event, args, extra) { return Object.assign({ from: this.pid, pids: [this.pid], type, event, args }, extra); }
  sendUp(m) { if (this.up) this.up(m); }
  bubble(e, ...a) { this.fire(this.msg('toParents', e, a)); this.sendUp(this.msg('toParents', e, a)); }
  sendToParents(e, ...a) { this.sendUp(this.msg('toParents', e, a)); }
  sendToSiblings(e, ...a) { this.sendUp(this.msg('toSiblings', e, a)); }
  sendToGrandMaster(e, ...a) { this.sendUp(this.msg('toGM', e, a)); }
  sendToChilds(e, ...a) { this.down(this.msg('toChilds', e, a)); }
  sendToChild(pid, e, ...a) { const k = this.kids.get(String(pid)); if (k) k.send(this.msg('toChild', e, a, { to: String(pid) })); }
  broadcast(e, ...a) { const m = this.msg('broadcast', e, a); this.sendUp(m); this.down(m); }
  sendTo(pids, e, ...a) {
    const route = pids.slice();
    let hop = route.pop();
    if (hop === this.pid) hop = route.pop();
    this.forward(hop, this.msg('sendTo', e, a, { to: route.length ? route[0] : hop, route }));
  }
  down(m, not) { for (const k of this.kids.values()) if (k.pid !== not && k.listens.has(m.event) && !m.pids.includes(k.pid)) k.send(m); }
  forward(hop, m) { const k = this.kids.get(hop); if (k) k.send(m); else if (hop === this.parentPid) this.sendUp(m); }

  // ---- receiving --------------------------------------------------------
  fire(m) { this.seen.push(m); for (const f of this.handlers.get(m.event) || []) f(m, ...m.args); }
  receive(m, kid) {
    if (kid && m.event === 'newListener') kid.listens.add(m.args[0]);
    m.pids.push(this.pid);
    switch (m.type) {
      case 'toParents':
        if (kid && m.event === 'online' && m.from === kid.pid) this.sendToChild(kid.pid, 'parent', this.pid);
        this.fire(m); this.sendUp(m); break;
      case 'toChilds': this.fire(m); this.down(m); break;
      case 'toSiblings': if (m.pids.length === 3) this.fire(m); else this.down(m, m.from); break;
      case 'toChild': if (m.event === 'parent') this.parentPid = m.args[0]; this.fire(m); break;
      case 'toGM': this.sendUp(m); break;
      case 'sendTo': if (m.to === this.pid) this.fire(m); else this.forward(m.route.pop(), m); break;
      case 'broadcast':
        this.fire(m);
        if (this.parentPid && !m.pids.includes(this.parentPid)) this.sendUp(m);
        this.down(m); break;
    }
  }
}
module.exports = Peer;
